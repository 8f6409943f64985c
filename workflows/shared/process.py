"""What every process does the same way: steps that are never stuck silently, waits that say what they wait for."""

from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, is_cancelled_exception

from workflows.shared import attributes
from workflows.shared.policies import DB, SLOW_CLOCK, Policy

with workflow.unsafe.imports_passed_through():
    from activities.processes import ProcessActivities
    from domain.contracts.processes import ProcessInput, Stuck, Subject
    from domain.processes import ProcessEnded, ProcessStuck

RECHECK = timedelta(days=90)
"""The longest any wait lasts before its reason is looked at again."""

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Refused(Exception):
    """A step was refused for good, for a reason the process has a branch for. `type` is the error's code."""

    def __init__(self, type: str) -> None:
        super().__init__(type)
        self.type = type


class Process:
    """Base of the workflow classes. A poke carries no facts: whoever is poked re-reads the source."""

    kind: ClassVar[str]

    def __init__(self, input: ProcessInput) -> None:
        self._input = input
        self._poked = workflow.info().continued_run_id is not None  # the run before may have left one unread
        self._retry_now = False
        self._stuck = input.stuck
        # Whoever starts a process shows its first state; a run that continues another one shows its own.
        self._state = "" if self._poked else attributes.FIRST_STATE[self.kind]
        self._details = ""

    def _subject(self) -> Subject:
        return Subject(id=self._input.subject_id, now=workflow.now())

    @workflow.signal(name="poke")
    def poke(self) -> None:
        """Something happened outside."""
        self._poked = True

    @workflow.update(name="retry")
    def retry(self) -> str:
        """An operator asks to try the stuck step now; answers what the process does."""
        self._retry_now = True
        self._poked = True
        return self._stuck.step if self._stuck else self._details

    @retry.validator
    def _may_retry(self) -> None:
        if self._state == "closed":
            raise ApplicationError("The process has ended.", type=ProcessEnded.__name__)

    async def _answered(self, condition: Callable[[], bool]) -> None:
        """What an update waits for. Raises when a step is stuck: whoever asked is told, and the history can end."""
        await workflow.wait_condition(lambda: condition() or self._stuck is not None)
        if not condition() and self._stuck is not None:
            raise ApplicationError(f"This step fails at the moment: {self._stuck.step}.", type=ProcessStuck.__name__)

    def _show(self, state: str, waiting_for: str, until: datetime | None = None, then: str = "") -> None:
        """Tells operators where the process stands: search attribute and current details."""
        if state != self._state:
            self._state = state
            workflow.upsert_search_attributes([attributes.STATE.value_set(state)])
        deadline = f" until {until:%Y-%m-%d %H:%M:%S} UTC" if until else ""
        self._details = f"waiting for {waiting_for}{deadline}"
        workflow.set_current_details(f"**{state}** · {self._details}" + (f"\n\nthen: {then}" if then else ""))

    async def _step(
        self,
        activity: Callable[[Any, Argument], Coroutine[Any, Any, Result]],
        argument: Callable[[], Argument],
        policy: Policy,
        summary: str,
        *,
        refusals: frozenset[str] = frozenset(),
    ) -> Result:
        """Runs an activity until it succeeds. Raises `Refused` for the error types named in `refusals`, else nothing.

        A step that has failed for longer than the process's patience is shown as stuck and tried again every few
        minutes, or at once on an operator's word. `argument` is made anew for these: its clock must not stand still.
        """
        while True:
            try:
                result: Result = await workflow.execute_activity_method(
                    activity, argument(), summary=summary, **policy.options(self._input.patience)
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                error = _error_type(failure)
                if error in refusals:
                    raise Refused(error) from failure
                await self._wait_stuck(summary, error)
            else:
                if self._stuck and self._stuck.step == summary:
                    await self._recover()
                return result

    async def _quick_step(
        self,
        activity: Callable[[Any, Argument], Coroutine[Any, Any, Result]],
        argument: Callable[[], Argument],
        policy: Policy,
        summary: str,
    ) -> Result:
        """A step of milliseconds on the database, tried once inside the workflow task; what fails becomes a `_step`.

        For the one step of a process that is started for every student: it costs the server a third of an activity.
        """
        try:
            result: Result = await workflow.execute_local_activity_method(
                activity, argument(), summary=summary, **policy.local_options()
            )
        except FailureError as failure:  # the activity's own error, not wrapped as a scheduled one's
            if is_cancelled_exception(failure):
                raise
            return await self._step(activity, argument, policy, summary)
        return result

    async def _wait_stuck(self, step: str, error: str, *, retry_after: timedelta | None = SLOW_CLOCK) -> None:
        """Shows the step as stuck and sleeps until it is worth another try; None: until an operator says so."""
        since = self._stuck.since if self._stuck and self._stuck.step == step else workflow.now()
        next_at = workflow.now() + retry_after if retry_after else None
        self._stuck = Stuck(
            process_id=workflow.info().workflow_id,
            kind=self.kind,
            subject_id=self._input.subject_id,
            step=step,
            error=error,
            since=since,
            next_at=next_at,
        )
        workflow.upsert_search_attributes([attributes.STUCK_SINCE.value_set(since)])
        following = f"next try {next_at:%H:%M:%S} UTC" if next_at else "waiting for an operator"
        workflow.set_current_details(f"**stuck** · {step} fails with {error} since {since:%H:%M:%S} UTC · {following}")
        self._retry_now = False
        await self._quietly(ProcessActivities.mark_stuck, self._stuck, "show that the step is stuck")
        try:
            await workflow.wait_condition(
                lambda: self._retry_now, timeout=retry_after, timeout_summary=f"stuck: {step}"
            )
        except TimeoutError:
            workflow.logger.info("trying again the step that is stuck")
            self._continue_if_long()

    async def _recover(self) -> None:
        """What was stuck is not any more: the step went through, or the process got on without it."""
        if self._stuck is None:
            return
        stuck, self._stuck = self._stuck, None
        workflow.upsert_search_attributes([attributes.STUCK_SINCE.value_unset()])
        await self._quietly(ProcessActivities.mark_recovered, stuck, "show that the step went through")

    async def _quietly(self, activity: Callable[..., Any], stuck: Stuck, summary: str) -> None:
        """Best effort: when even the projection cannot be written, the search attribute still shows the process."""
        try:
            await workflow.execute_activity_method(activity, stuck, summary=summary, **DB.options(self._input.patience))
        except ActivityError:
            workflow.logger.warning("the projection of a stuck process could not be written")

    async def _wait(self, until: datetime, summary: str, *, wakes: Callable[[], bool] = lambda: False) -> bool:
        """Sleeps until poked, until `wakes`, or until then (clamped to now). True when woken before `until`."""
        if not self._poked and not wakes():  # a run that continues a stuck one comes by on its way to that step
            await self._recover()
        timeout = max(until - workflow.now(), timedelta(0))
        try:
            await workflow.wait_condition(lambda: self._poked or wakes(), timeout=timeout, timeout_summary=summary)
        except TimeoutError:
            return False
        return True

    def _continue_if_long(self) -> None:
        """Starts over with a short history when Temporal suggests it, unless a handler still has to answer."""
        if workflow.info().is_continue_as_new_suggested() and workflow.all_handlers_finished():
            workflow.continue_as_new(replace(self._input, stuck=self._stuck))

    async def _finish(self) -> None:
        """Lets every handler answer before the process ends."""
        await self._recover()
        self._state = "closed"
        await workflow.wait_condition(workflow.all_handlers_finished)


def _error_type(failure: ActivityError) -> str:
    cause = failure.cause
    if isinstance(cause, ApplicationError) and cause.type:
        return cause.type
    return type(cause).__name__ if cause else "Unknown"
