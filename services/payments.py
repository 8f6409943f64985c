"""Payments: what Stripe says of an order's money, stored as facts. Booking them is `services/booking.py`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from core.ids import new_id
from core.integrations.stripe import ChargeState, CheckoutState
from domain.contracts.processes import PaymentsSeen
from services import timeline

_UNFINISHED = """
select array_agg(stripe_session order by n) as ids from checkout_sessions
where order_id = $1
  and not exists (select from payments where payments.stripe_session = checkout_sessions.stripe_session
                                         and stripe_balance_txn is not null)
"""
_CHARGE = text(
    """
    insert into payments (id, order_id, stripe_session, stripe_payment_intent, stripe_charge, amount, currency,
                          livemode, created_at)
    values (:id, :order_id, :stripe_session, :stripe_payment_intent, :stripe_charge, :amount, :currency,
            :livemode, :now)
    on conflict do nothing
    """
)
_BALANCE_TXN = text(
    """
    update payments
       set stripe_balance_txn = :txn, settled_currency = :currency, settled_amount = :amount, fee = :fee, net = :net,
           available_on = :available_on, updated_at = now()
     where stripe_charge = :charge and stripe_balance_txn is null
    """
)


_FAILED = text("update checkout_sessions set failed_at = :now where stripe_session = :id and failed_at is null")

_NEVER_PAID = frozenset({"requires_payment_method", "canceled"})
"""What a payment intent says after its failure. A completed session offers no second try."""


async def unfinished_sessions(db: Database, order_id: UUID) -> Sequence[str]:
    """Stripe's ids of the order's Checkout Sessions of which Stripe may know more than we do.

    An expired one is among them: money can still arrive for it.
    """
    found = await db.fetch_row(_UNFINISHED, order_id)
    return (found and found["ids"]) or ()


async def record_seen(
    session: AsyncSession, order_id: UUID, seen: Iterable[CheckoutState], now: datetime
) -> PaymentsSeen:
    """Stores what Stripe says. Known facts are completed, never taken back: an older answer cannot undo a newer one."""
    still_open = False
    for checkout in seen:
        intent = checkout.payment_intent
        if intent is not None and intent.status == "succeeded" and intent.charge is not None:
            await _record_charge(session, order_id, checkout, intent.id, intent.charge, now)
        elif checkout.status == "complete" and intent is not None and intent.status in _NEVER_PAID:
            await _record_failure(session, order_id, checkout, now)
        elif checkout.status in ("open", "complete"):  # some payment methods take days after the session is complete
            still_open = True
    return PaymentsSeen(open=still_open)


async def _record_failure(session: AsyncSession, order_id: UUID, checkout: CheckoutState, now: datetime) -> None:
    await session.execute(_FAILED, {"id": checkout.id, "now": now})
    await timeline.record(
        session, ("order", order_id), "payment.failed", now, key=f"failed:{checkout.id}", actor="stripe"
    )


async def _record_charge(
    session: AsyncSession,
    order_id: UUID,
    checkout: CheckoutState,
    payment_intent: str,
    charge: ChargeState,
    now: datetime,
) -> None:
    await session.execute(
        _CHARGE,
        {
            "id": new_id(),
            "order_id": order_id,
            "stripe_session": checkout.id,
            "stripe_payment_intent": payment_intent,
            "stripe_charge": charge.id,
            "amount": charge.amount,
            "currency": charge.currency,
            "livemode": checkout.livemode,
            "now": now,
        },
    )
    txn = charge.balance_transaction
    if txn is not None:
        await session.execute(
            _BALANCE_TXN,
            {
                "txn": txn.txn,
                "currency": txn.currency,
                "amount": txn.gross,
                "fee": txn.fee,
                "net": txn.net,
                "available_on": txn.available_on,
                "charge": charge.id,
            },
        )
