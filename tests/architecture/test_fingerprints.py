"""A change of a workflow's commands is made on purpose, or not at all."""

import ast
import difflib
import json

import pytest

from tests.architecture import fingerprints
from workflows.worker import WORKFLOWS

HOW_TO = """
The commands of {name} changed:

{diff}

A process that was started before this change is replayed by it and must give the same commands again. So either
 1. undo it: the same can often be had inside an activity, which may change freely; or
 2. keep both ways: `if workflow.patched("what-changed"): new way, else: the old one`; or
 3. if no such process has ever run in production, change it as it is.
Then accept the new commands with `python -m tests.architecture.fingerprints`, record how the new way runs with
`python -m tests.replay.record {name}`, and commit both. The histories recorded before stay: they prove that 1 or 2 was
done right."""


def test_every_workflow_has_a_fingerprint() -> None:
    registered = sorted(str(getattr(owner, "__temporal_workflow_definition").name) for owner in WORKFLOWS)
    assert sorted(fingerprints.stored()) == registered
    assert sorted(fingerprints.current()) == registered


@pytest.mark.parametrize("name", sorted(fingerprints.stored()))
def test_commands_are_those_that_were_accepted(name: str) -> None:
    accepted, found = (json.dumps(value[name], indent=1) for value in (fingerprints.stored(), fingerprints.current()))
    if accepted != found:
        diff = "\n".join(difflib.unified_diff(accepted.splitlines(), found.splitlines(), "accepted", "source", n=2))
        pytest.fail(HOW_TO.format(name=name, diff=diff), pytrace=False)


def _fingerprint(body: str) -> fingerprints.Fingerprint:
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    owner = ast.parse(f"class W(Process):\n    @workflow.run\n    async def run(self, input):\n{lines}\n").body[0]
    assert isinstance(owner, ast.ClassDef)
    return fingerprints.of(owner)


STEPS = """
await self._step(OrderActivities.renew_checkout, 1)
if self._open:
    await self._wait(None, "x")
await self._step(OrderActivities.apply_payments, 2)
"""


def test_a_fingerprint_names_activities_branches_and_waits() -> None:
    assert _fingerprint(STEPS)["run"] == [
        "_step orders.renew_checkout",
        "if self._open",
        "  _wait",
        "_step orders.apply_payments",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("renew_checkout", "record_checkout"),
        ("await self._wait", "await workflow.sleep"),
        ("if self._open:", "while self._open:"),
        ("    await self._wait(None, 'x')", "    pass"),
        ("if self._open:", "if not self._open:"),
    ],
)
def test_a_fingerprint_shows_the_change(before: str, after: str) -> None:
    source = STEPS.replace('"', "'")
    assert before in source
    assert _fingerprint(source.replace(before, after)) != _fingerprint(source)


def test_a_fingerprint_shows_steps_in_another_order() -> None:
    first, *rest = STEPS.strip().splitlines()
    assert _fingerprint("\n".join([*rest, first])) != _fingerprint(STEPS)


def test_a_fingerprint_ignores_what_is_no_command() -> None:
    assert _fingerprint(STEPS + "\nself._seen = 1 + len('abc')") == _fingerprint(STEPS)
