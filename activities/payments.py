"""What the Order process asks of Stripe. Each call has a key made of the order and a number stored before the call."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from temporalio import activity

from core import failpoints
from core.db import Database
from core.ids import new_id
from core.integrations.stripe import CheckoutSession, CheckoutState, StripeGateway, StripeRefused, StripeTransient
from core.settings import Settings
from domain.contracts.processes import CheckoutCreated, CheckoutOpened, PaymentsSeen, Subject
from domain.orders import OPEN, CheckoutRefused
from models.identity import User
from models.order import Order, OrderLine
from services import orders, payments

_SHORTEST = timedelta(minutes=30, seconds=10)
"""Stripe opens no Checkout Session that ends within 30 minutes, and the request takes a moment."""


class PaymentActivities:
    def __init__(self, db: Database, stripe: StripeGateway, settings: Settings) -> None:
        self._db, self._stripe, self._settings = db, stripe, settings

    @activity.defn(name="payments.open_checkout")
    async def open_checkout(self, subject: Subject) -> CheckoutOpened:
        """Creates the order's Checkout Session, or finds the one an earlier try created.

        A number that is spent without a session is followed by the next. Raises `CheckoutRefused` when Stripe will
        never accept the order as it is.
        """
        failpoints.hit("payments.open_checkout.before")
        async with self._db.read() as session:
            order = await orders.get_own(session, subject.id, None)
            state = await orders.describe(session, order)
            if order.status not in OPEN or state.has_checkout or order.gross == 0:
                return CheckoutOpened(order=state)
            lines = await orders.lines_of(session, order.id)
            email = await session.scalar(select(User.email).where(User.id == order.student_id))
        if order.expires_at - subject.now < _SHORTEST:  # too late to create it, but an earlier try may have
            found = await self._stripe.find_checkout(order.id, order.checkout_n, order.created_at)
            if found is None:
                await self._renew(subject)
                return await self.open_checkout(subject)
            checkout = found
        else:
            checkout = await self._create_or_find(order, lines, email, subject)
        failpoints.hit("payments.open_checkout.after")
        created = CheckoutCreated(
            n=order.checkout_n, stripe_session=checkout.id, url=checkout.url, expires_at=checkout.expires_at
        )
        return CheckoutOpened(order=state, checkout=created)

    async def _create_or_find(
        self, order: Order, lines: Sequence[OrderLine], email: str | None, subject: Subject
    ) -> CheckoutSession:
        page = f"{self._settings.api.public_url}/checkout/{order.id}"
        try:
            return await self._stripe.create_checkout(
                idempotency_key=f"co:{order.id}:{order.checkout_n}",
                order_id=order.id,
                attempt=order.checkout_n,
                student_email=email,
                lines=[(line.title, line.net) for line in lines if line.net],
                currency=order.currency,
                expires_at=order.expires_at,
                success_url=f"{page}?outcome=success",
                cancel_url=f"{page}?outcome=cancel",
            )
        except StripeRefused as refusal:
            raise CheckoutRefused(f"Stripe refused the checkout: {refusal.code}.") from refusal
        except StripeTransient as failure:
            if not failure.remembered:
                raise
            # The key is spent on a failure that Stripe will repeat for a day.
            found = await self._stripe.find_checkout(order.id, order.checkout_n, order.created_at)
            if found is None:
                await self._renew(subject)
                raise
            return found

    async def _renew(self, subject: Subject) -> None:
        async with self._db.transaction() as session:
            await orders.renew_checkout(session, subject.id, self._settings.platform, subject.now)

    @activity.defn(name="payments.read_payments")
    async def read_payments(self, subject: Subject) -> PaymentsSeen:
        """Reads the order's Checkout Sessions at Stripe and stores what they say."""
        failpoints.hit("payments.read_payments.before")
        unfinished = await payments.unfinished_sessions(self._db, subject.id)
        seen = [await self._stripe.retrieve_checkout(checkout) for checkout in unfinished]
        return await self._record(subject, seen)

    @activity.defn(name="payments.close_checkouts")
    async def close_checkouts(self, subject: Subject) -> PaymentsSeen:
        """Ends the order's payment pages. One that was paid in the same second stays paid (docs/faults.md, row 7)."""
        failpoints.hit("payments.close_checkouts.before")
        seen = [await self._close(checkout) for checkout in await payments.unfinished_sessions(self._db, subject.id)]
        return await self._record(subject, seen)

    async def _close(self, checkout: str) -> CheckoutState:
        state = await self._stripe.retrieve_checkout(checkout)
        if state.status != "open":
            return state
        # Ending it twice is ending it once, so no key has to outlive a try, and no stored failure comes back.
        return await self._stripe.expire_checkout(checkout, idempotency_key=f"cox:{checkout}:{new_id()}")

    async def _record(self, subject: Subject, seen: Sequence[CheckoutState]) -> PaymentsSeen:
        async with self._db.transaction() as session:
            result = await payments.record_seen(session, subject.id, seen, subject.now)
        failpoints.hit("payments.record.after")
        return result
