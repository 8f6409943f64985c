"""What the Refund process asks of Stripe and writes to PostgreSQL."""

from datetime import timedelta

from temporalio import activity

from core import failpoints
from core.db import Database
from core.integrations.stripe import StripeGateway, StripeRefund, StripeRefused, StripeTransient
from domain.contracts.processes import RefundState, Subject
from domain.refunds import FINAL, POLL, RefundAttemptSpent, RefundStatus
from models.payment import Payment, Refund
from services import processes, refunds

_KEY_LIFE = timedelta(hours=23)
"""Stripe may forget an idempotency key after 24 hours; an older attempt is looked up instead (docs/faults.md)."""


class RefundActivities:
    def __init__(self, db: Database, stripe: StripeGateway) -> None:
        self._db, self._stripe = db, stripe

    @activity.defn(name="refunds.submit")
    async def submit(self, subject: Subject) -> RefundState:
        """Asks Stripe once to give the money back."""
        failpoints.hit("refunds.submit.before")
        async with self._db.transaction() as session:
            refund, payment = await refunds.begin_attempt(session, subject.id, subject.now)
        if refund.status in FINAL:
            return RefundState(status=refund.status)
        if refund.stripe_refund is not None:
            seen = await self._stripe.retrieve_refund(refund.stripe_refund)
        else:
            seen = await self._create_or_find(refund, payment, subject)
        failpoints.hit("refunds.submit.after")
        return await self._record(subject, seen)

    async def _create_or_find(self, refund: Refund, payment: Payment, subject: Subject) -> StripeRefund:
        if refund.attempted_at is None or subject.now - refund.attempted_at <= _KEY_LIFE:
            try:
                return await self._create(refund, payment)
            except StripeTransient as failure:
                if not failure.remembered:
                    raise
            except StripeRefused as refusal:
                if refusal.code != "charge_already_refunded":
                    raise
                found = await self._find(refund, payment, foreign=True)
                if found is None:
                    raise
                return found
        found = await self._find(refund, payment)
        if found is None:
            raise RefundAttemptSpent("No refund was made under this number, and none can be any more.")
        return found

    async def _find(self, refund: Refund, payment: Payment, *, foreign: bool = False) -> StripeRefund | None:
        """The refund Stripe has under a key that is spent. `foreign`: else one of that amount somebody made there."""
        listed = await self._stripe.list_refunds(payment.stripe_payment_intent)
        alive = [found for found in listed if found.status not in ("failed", "canceled")]
        ours = [found for found in alive if found.metadata.get("refund_id") == str(refund.id)]
        theirs = [
            found
            for found in alive
            if "refund_id" not in found.metadata and (found.amount, found.currency) == (refund.amount, refund.currency)
        ]
        return next(iter(ours + theirs if foreign else ours), None)

    async def _create(self, refund: Refund, payment: Payment) -> StripeRefund:
        return await self._stripe.create_refund(
            idempotency_key=f"rf:{refund.id}:{refund.attempt}",
            charge_id=payment.stripe_charge,
            amount=refund.amount,
            reason="duplicate" if refund.reason == "duplicate" else None,
            metadata={"refund_id": str(refund.id), "order_id": str(refund.order_id), "attempt": str(refund.attempt)},
        )

    @activity.defn(name="refunds.read")
    async def read(self, subject: Subject) -> RefundState:
        """Reads the refund at Stripe and books what it says."""
        async with self._db.read() as session:
            refund = await refunds.get(session, subject.id)
        if refund.stripe_refund is None:
            return RefundState(status=refund.status)
        return await self._record(subject, await self._stripe.retrieve_refund(refund.stripe_refund))

    async def _record(self, subject: Subject, seen: StripeRefund) -> RefundState:
        workflow_id = activity.info().workflow_id or ""
        async with self._db.transaction() as session:
            state = await refunds.record(session, subject.id, seen, subject.now, workflow_id=workflow_id)
            done = state.status == RefundStatus.SUCCEEDED
            await processes.note(
                session,
                workflow_id,
                "refund",
                subject.id,
                state=state.status,
                now=subject.now,
                waiting_for=None if done else "the refund at Stripe",
                next_step=None if done else "read Stripe",
                next_at=None if done else subject.now + POLL,
            )
        return state

    @activity.defn(name="refunds.next_attempt")
    async def next_attempt(self, subject: Subject) -> RefundState:
        """Numbers the next attempt after Stripe refused the last one for good."""
        async with self._db.transaction() as session:
            return await refunds.next_attempt(session, subject.id)
