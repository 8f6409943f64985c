"""What the Order process writes to PostgreSQL: one transaction each, keyed so that running it again changes nothing."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from core import failpoints
from core.db import Database
from core.settings import Settings
from domain.contracts.processes import ApplyPayments, OrderState, RecordCheckout, Subject
from domain.errors import DomainError
from domain.orders import OPEN, POLL_AFTER, SETTLE_POLL
from services import booking, orders, processes


class OrderActivities:
    def __init__(self, db: Database, settings: Settings) -> None:
        self._db, self._settings = db, settings

    @activity.defn(name="orders.record_checkout")
    async def record_checkout(self, command: RecordCheckout) -> OrderState:
        """Stores the Checkout Session Stripe made."""
        failpoints.hit("orders.record_checkout.before")
        async with self._db.transaction() as session:
            order = await orders.record_checkout(session, command.order_id, command.checkout, command.now)
            await _note(session, command.order_id, order, command.now)
        failpoints.hit("orders.record_checkout.after")
        return order

    @activity.defn(name="orders.renew_checkout")
    async def renew_checkout(self, subject: Subject) -> OrderState:
        """Numbers the next Checkout Session."""
        async with self._db.transaction() as session:
            return await orders.renew_checkout(session, subject.id, self._settings.platform, subject.now)

    @activity.defn(name="orders.apply_payments")
    async def apply_payments(self, command: ApplyPayments) -> OrderState:
        """Books what is known of the order's payments; may end the order."""
        failpoints.hit("orders.apply_payments.before")
        try:
            order = await self._apply(command)
        except DomainError:
            # What cannot be settled must not take the sale back: the student has paid.
            await self._apply(command, settle=False)
            raise
        failpoints.hit("orders.apply_payments.after")
        return order

    async def _apply(self, command: ApplyPayments, *, settle: bool = True) -> OrderState:
        async with self._db.transaction() as session:
            order = await booking.apply(
                session,
                command,
                self._settings.platform,
                livemode=self._settings.stripe.livemode,
                workflow_id=activity.info().workflow_id or "",
                settle=settle,
            )
            await _note(session, command.order_id, order, command.now)
            failpoints.hit("orders.apply_payments.before_commit")
        return order


async def _note(session: AsyncSession, order_id: UUID, order: OrderState, now: datetime) -> None:
    """Shows operators what the order waits for."""
    if order.status in OPEN:
        waiting_for, next_at = "payment", order.expires_at + POLL_AFTER
    elif not order.settled:
        waiting_for, next_at = "settlement by Stripe", now + SETTLE_POLL
    else:
        waiting_for, next_at = None, None
    await processes.note(
        session,
        activity.info().workflow_id or "",
        "order",
        order_id,
        state=order.status,
        now=now,
        waiting_for=waiting_for,
        next_step="read Stripe" if waiting_for else None,
        next_at=next_at,
    )
