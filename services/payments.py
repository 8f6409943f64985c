"""Payments: what Stripe says of an order's money, stored as facts. Booking them is `services/booking.py`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import new_id
from core.integrations.stripe import ChargeState, CheckoutState
from domain.contracts.processes import PaymentsSeen
from models.order import CheckoutSession
from models.payment import Payment


async def unfinished_sessions(session: AsyncSession, order_id: UUID) -> Sequence[str]:
    """Stripe's ids of the order's Checkout Sessions of which Stripe may know more than we do.

    An expired one is among them: money can still arrive for it.
    """
    settled = exists().where(
        Payment.stripe_session == CheckoutSession.stripe_session, Payment.stripe_balance_txn.is_not(None)
    )
    query = (
        select(CheckoutSession.stripe_session)
        .where(CheckoutSession.order_id == order_id, ~settled)
        .order_by(CheckoutSession.n)
    )
    return (await session.scalars(query)).all()


async def record_seen(
    session: AsyncSession, order_id: UUID, seen: Iterable[CheckoutState], now: datetime
) -> PaymentsSeen:
    """Stores what Stripe says. Known facts are completed, never taken back: an older answer cannot undo a newer one."""
    still_open = False
    for checkout in seen:
        intent = checkout.payment_intent
        charge = intent.charge if intent is not None and intent.charge is not None and intent.charge.paid else None
        # A completed session may still be without its money: some payment methods take days.
        waiting = checkout.status == "open" or (checkout.status == "complete" and charge is None)
        still_open = still_open or waiting
        if intent is not None and charge is not None:
            await _record_charge(session, order_id, checkout, intent.id, charge, now)
    return PaymentsSeen(open=still_open)


async def _record_charge(
    session: AsyncSession,
    order_id: UUID,
    checkout: CheckoutState,
    payment_intent: str,
    charge: ChargeState,
    now: datetime,
) -> None:
    await session.execute(
        insert(Payment)
        .values(
            id=new_id(),
            order_id=order_id,
            stripe_session=checkout.id,
            stripe_payment_intent=payment_intent,
            stripe_charge=charge.id,
            amount=charge.amount,
            currency=charge.currency,
            livemode=checkout.livemode,
            created_at=now,
        )
        .on_conflict_do_nothing()
    )
    txn = charge.balance_transaction
    if txn is not None:
        await session.execute(
            update(Payment)
            .where(Payment.stripe_charge == charge.id, Payment.stripe_balance_txn.is_(None))
            .values(
                stripe_balance_txn=txn.id,
                settled_currency=txn.currency,
                settled_amount=txn.amount,
                fee=txn.fee,
                net=txn.net,
                available_on=txn.available_on,
            )
        )
