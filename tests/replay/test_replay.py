"""Processes that run today go on under today's code: recorded histories are replayed against it."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner
from temporalio.workflow import NondeterminismError

from core.temporal import data_converter
from domain.contracts.processes import EnrollmentState, OrderState, ProcessInput
from domain.enrollments import EnrollmentStatus
from tests.replay import histories
from tests.replay.cases import CASES
from tests.workflows.lab import settings_of
from workflows import sandbox
from workflows.enrollment import EnrollmentWorkflow
from workflows.order import OrderWorkflow
from workflows.worker import WORKFLOWS

HOW_TO = """
{path} does not replay any more:

  {error}

A process that took this path and runs now would stop at its next step, and stay there until the code can replay it.
 - `python -m pytest tests/architecture/test_fingerprints.py` shows which commands changed.
 - Keep the old way for running processes: `if workflow.patched("what-changed"): new way, else: the old one`.
   What happens inside an activity may change freely.
 - Then record how the new way runs (`python -m tests.replay.record WORKFLOW`) and keep this history beside it.
 - Delete this history only when no process that was started by its release can still be running."""


def _replayer(workflows: Sequence[type], runner: WorkflowRunner) -> Replayer:
    return Replayer(workflows=workflows, data_converter=data_converter(settings_of("replay")), workflow_runner=runner)


@pytest.mark.parametrize("path", histories.every(), ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_history_replays(path: Path) -> None:
    result = await _replayer(WORKFLOWS, sandbox.runner()).replay_workflow(
        histories.load(path), raise_on_replay_failure=False
    )
    if result.replay_failure:
        failure = HOW_TO.format(path=path.relative_to(histories.FOLDER.parents[2]), error=result.replay_failure)
        pytest.fail(failure, pytrace=False)


def test_every_case_of_every_workflow_is_recorded() -> None:
    registered = {workflow._Definition.must_from_class(owner).name for owner in WORKFLOWS}
    assert set(CASES) == registered
    missing = [
        f"{name} {case}"
        for name, cases in CASES.items()
        for case in cases
        if not histories.path_of(name, case).exists()
    ]
    assert missing == [], "record them with `python -m tests.replay.record`"


def test_histories_name_no_machine() -> None:
    found = [path.name for path in histories.every() if "stackTrace" in path.read_text() or "@" in path.read_text()]
    assert found == []


@workflow.defn(name="Order")
class ReadsBeforeItOpens(OrderWorkflow):
    """Two steps in another order."""

    @workflow.init
    def __init__(self, input: ProcessInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: ProcessInput) -> OrderState:
        await self._read()
        return await super().run(input)


@workflow.defn(name="Enrollment")
class EndsTwice(EnrollmentWorkflow):
    """One step more than before."""

    @workflow.init
    def __init__(self, input: ProcessInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: ProcessInput) -> EnrollmentState:
        ended = await super().run(input)
        await self._end(EnrollmentStatus(ended.status))
        return ended


@pytest.mark.parametrize(("mutant", "name"), [(ReadsBeforeItOpens, "Order"), (EndsTwice, "Enrollment")])
async def test_a_changed_workflow_is_caught(mutant: type, name: str) -> None:
    replayer = _replayer([mutant], UnsandboxedWorkflowRunner())
    for case in CASES[name]:
        history = histories.load(histories.path_of(name, case))
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        assert isinstance(result.replay_failure, NondeterminismError), case
