"""Refunds of stray money: requested when it is parked, submitted to Stripe, booked when Stripe has taken it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import derived_id
from core.integrations.stripe import StripeRefund
from domain import ledger as postings
from domain.contracts.events import PaymentReturned
from domain.contracts.processes import RefundState
from domain.refunds import FINAL, RefundNotFound, RefundStatus
from models.order import Order
from models.payment import Payment, Refund
from services import ledger, outbox, timeline


async def request_stray(session: AsyncSession, payment: Payment, now: datetime) -> Refund:
    """Undertakes to give back what a payment did not buy; its money is already owed in the ledger."""
    refund = Refund(
        id=derived_id("refund", payment.id),
        order_id=payment.order_id,
        payment_id=payment.id,
        amount=payment.unapplied_amount,
        currency=payment.currency,
        source="duplicate",
        reason=payment.unapplied_reason or "duplicate",
        status=RefundStatus.RESERVED,
        attempt=1,
        created_at=now,
    )
    session.add(refund)
    await session.flush()
    return refund


async def lock(session: AsyncSession, refund_id: UUID) -> Refund:
    """The refund under its row lock; raises `RefundNotFound`."""
    refund = await session.get(Refund, refund_id, with_for_update=True, populate_existing=True)
    if refund is None:
        raise RefundNotFound(f"There is no refund {refund_id}.")
    return refund


async def get(session: AsyncSession, refund_id: UUID) -> Refund:
    """Raises `RefundNotFound`."""
    refund = await session.get(Refund, refund_id)
    if refund is None:
        raise RefundNotFound(f"There is no refund {refund_id}.")
    return refund


async def next_attempt(session: AsyncSession, refund_id: UUID) -> RefundState:
    """Stripe refused the last attempt for good, so the next one needs a new key."""
    refund = await lock(session, refund_id)
    refund.attempt += 1
    refund.status, refund.attempted_at, refund.stripe_refund = RefundStatus.RESERVED, None, None
    return RefundState(status=refund.status)


async def begin_attempt(session: AsyncSession, refund_id: UUID, now: datetime) -> tuple[Refund, Payment]:
    """Stores that Stripe is about to be asked, before it is asked."""
    refund = await lock(session, refund_id)
    refund.attempted_at = refund.attempted_at or now
    return refund, await session.get_one(Payment, refund.payment_id)


async def record(
    session: AsyncSession, refund_id: UUID, seen: StripeRefund, now: datetime, *, workflow_id: str
) -> RefundState:
    """Stores what Stripe says of the refund; books it once its balance transaction exists."""
    refund = await lock(session, refund_id)
    if refund.status in FINAL:
        return RefundState(status=refund.status)
    subject = ("order", refund.order_id)
    money: dict[str, Any] = {"total": refund.amount, "currency": refund.currency}
    if refund.stripe_refund is None:
        refund.stripe_refund = seen.id
        key = f"refund:{refund.id}:{refund.attempt}"
        await timeline.record(
            session, subject, "refund.submitted", now, key=key, next_step="Stripe pays it out", **money
        )
    if seen.status in ("failed", "canceled"):
        refund.status, refund.failure = RefundStatus.NEEDS_MANUAL, seen.failure_reason or seen.status
        await timeline.record(
            session,
            subject,
            "refund.failed",
            now,
            key=f"refund-failed:{refund.id}:{refund.attempt}",
            reason=refund.failure,
            **money,
        )
    elif seen.status == "succeeded" and seen.balance_transaction is not None:
        await _settle(session, refund, seen, seen.balance_transaction, now, workflow_id)
    else:
        refund.status = RefundStatus.PENDING
    return RefundState(status=refund.status)


async def _settle(
    session: AsyncSession,
    refund: Refund,
    seen: StripeRefund,
    settlement: postings.Settlement,
    now: datetime,
    workflow_id: str,
) -> None:
    refund.status, refund.settled_at, refund.stripe_balance_txn = RefundStatus.SUCCEEDED, now, settlement.txn
    for entry in postings.refund_settle(
        refund_id=refund.id,
        order_id=refund.order_id,
        stripe_refund=seen.id,
        amount=refund.amount,
        currency=refund.currency,
        settlement=settlement,
    ):
        await ledger.post(session, entry, actor="system", workflow_id=workflow_id, occurred_at=now)
    await timeline.record(
        session,
        ("order", refund.order_id),
        "payment.returned",
        now,
        key=f"returned:{refund.id}",
        actor="stripe",
        total=refund.amount,
        currency=refund.currency,
    )
    order = await session.get_one(Order, refund.order_id)
    await outbox.emit(
        session,
        PaymentReturned(
            payment_id=refund.payment_id,
            refund_id=refund.id,
            order_id=order.id,
            student_id=order.student_id,
            reason=refund.reason,
        ),
        key=str(refund.id),
    )
