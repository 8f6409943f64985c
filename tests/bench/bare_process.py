"""The baseline of orders, as its workflow: one update, one signal and empty activities."""

from datetime import timedelta

from temporalio import activity, workflow

TIMEOUT = timedelta(seconds=60)
BEFORE_UPDATE = 2
"""Activities before the update answers: an order's payment page is made and stored."""


@activity.defn(name="bench.nothing")
async def nothing() -> None:
    """Does nothing."""


@workflow.defn(name="Bare")
class BareWorkflow:
    def __init__(self) -> None:
        self._placed = self._poked = False

    @workflow.update
    async def place(self) -> None:
        await workflow.wait_condition(lambda: self._placed)

    @workflow.signal
    def poke(self) -> None:
        self._poked = True

    @workflow.run
    async def run(self, activities: int) -> None:
        for number in range(activities):
            if number == BEFORE_UPDATE:
                self._placed = True
                await workflow.wait_condition(lambda: self._poked)
            await workflow.execute_activity(nothing, start_to_close_timeout=TIMEOUT, schedule_to_close_timeout=TIMEOUT)
