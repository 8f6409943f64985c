"""Refund: money that bought nothing goes back, and Stripe's word is waited for."""

from temporalio import workflow

from workflows.shared.policies import DB, STRIPE
from workflows.shared.process import Process, Refused

with workflow.unsafe.imports_passed_through():
    from activities.refunds import RefundActivities
    from domain.contracts.processes import ProcessInput, RefundState
    from domain.refunds import POLL, RefundAttemptSpent, RefundStatus

_SPENT = RefundAttemptSpent.__name__
_REFUSED = frozenset({"StripeRefused", _SPENT})


@workflow.defn(name="Refund")
class RefundWorkflow(Process):
    kind = "refund"

    @workflow.init
    def __init__(self, input: ProcessInput) -> None:
        super().__init__(input)

    @workflow.run
    async def run(self, input: ProcessInput) -> RefundState:
        self._show("submitting", "Stripe")
        refund = await self._submit()
        while refund.status != RefundStatus.SUCCEEDED:
            if refund.status == RefundStatus.NEEDS_MANUAL:
                await self._ask_operator("RefundFailed")
                refund = await self._submit_again()
                continue
            poll_at = workflow.now() + POLL
            self._show(RefundStatus.PENDING, "the refund at Stripe", poll_at, "read Stripe")
            await self._wait(poll_at, "read Stripe for the refund")
            self._poked = False
            refund = await self._step(RefundActivities.read, self._subject, STRIPE, "read the refund at Stripe")
            self._continue_if_long()
        self._show(RefundStatus.SUCCEEDED, "nothing")
        await self._finish()
        return refund

    async def _submit(self) -> RefundState:
        while True:
            try:
                return await self._step(
                    RefundActivities.submit,
                    self._subject,
                    STRIPE,
                    "ask Stripe to give the money back",
                    refusals=_REFUSED,
                )
            except Refused as refused:
                if refused.type != _SPENT:
                    await self._ask_operator(refused.type)
                await self._next_attempt()

    async def _submit_again(self) -> RefundState:
        await self._next_attempt()
        return await self._submit()

    async def _next_attempt(self) -> None:
        await self._step(RefundActivities.next_attempt, self._subject, DB, "number the next attempt")

    async def _ask_operator(self, error: str) -> None:
        """Another try needs a new key at Stripe, so a person decides when."""
        await self._wait_stuck("give the money back", error, retry_after=None)
