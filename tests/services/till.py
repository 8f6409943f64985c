"""A till on PostgreSQL, without Temporal and Stripe: orders placed, paid and booked, and what that left behind."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from core.db import Database
from core.ids import new_id
from core.integrations.stripe import ChargeState, CheckoutState, PaymentState
from core.settings import PlatformSettings
from domain.contracts.processes import ApplyPayments, CheckoutCreated, OrderState, PaymentsSeen
from domain.ledger import Settlement
from models.order import Order
from services import booking, orders, payments
from tests.support import scenes

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
POLICY = PlatformSettings()
FACTS = (
    "orders", "order_lines", "payments", "refunds", "course_claims", "seat_holds", "checkout_sessions", "enrollments",
    "enrollment_grants", "earnings", "ledger_transactions", "ledger_entries", "ledger_balances", "timeline_entries",
    "outbox",
)  # fmt: skip


def charged(
    order: Order, *, settled: bool = True, conversion: tuple[str, int] | None = None, **changes: Any
) -> CheckoutState:
    """A Checkout Session of the order that was paid, and, when `settled`, its balance transaction (fee 172)."""
    name = new_id().hex
    amount: int = changes.pop("amount", order.gross)
    currency: str = changes.pop("currency", order.currency)
    settled_in, settled_amount = conversion or (currency, amount)
    available_on = NOW + timedelta(days=40)
    txn = Settlement(f"txn_{name}", settled_in, settled_amount, 172, settled_amount - 172, available_on)
    charge = ChargeState(f"ch_{name}", amount, currency, txn if settled else None)
    return CheckoutState(
        id=f"cs_{name}",
        status="complete",
        livemode=changes.pop("livemode", False),
        payment_intent=PaymentState(f"pi_{name}", "succeeded", charge),
        **changes,
    )


def unsettled(seen: CheckoutState) -> CheckoutState:
    """What Stripe said of the same charge before its balance transaction existed."""
    assert seen.payment_intent is not None
    assert seen.payment_intent.charge is not None
    charge = replace(seen.payment_intent.charge, balance_transaction=None)
    return replace(seen, payment_intent=replace(seen.payment_intent, charge=charge))


class Till:
    """Orders placed and booked as the API and the activities do, each step in a transaction of its own."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def student(self) -> UUID:
        async with self.db.transaction() as session:
            return (await scenes.add_user(session)).id

    async def course(self, price: int | None = 4900, *, currency: str = "usd", capacity: int | None = None) -> UUID:
        async with self.db.transaction() as session:
            owner = await scenes.add_user(session)
            course = await scenes.add_course(session, owner.id, "Tides", price)
            course.price_currency = currency if price else None
            course.capacity = capacity
            return course.id

    async def shrink(self, course_id: UUID, capacity: int) -> None:
        async with self.db.transaction() as session:
            await session.execute(
                text("update courses set capacity = :capacity where id = :id"), {"id": course_id, "capacity": capacity}
            )

    async def unpublish(self, course_id: UUID) -> None:
        async with self.db.transaction() as session:
            await session.execute(text("update courses set status = 'unpublished' where id = :id"), {"id": course_id})

    async def place(self, student: UUID, *courses: UUID) -> Order:
        async with self.db.transaction() as session:
            return await orders.place(session, student, courses, idempotency_key=str(new_id()), policy=POLICY, now=NOW)

    async def open_page(self, order: Order, stripe_session: str) -> None:
        """Stripe has made the order's Checkout Session."""
        page = CheckoutCreated(n=1, stripe_session=stripe_session, url="https://pay", expires_at=order.expires_at)
        async with self.db.transaction() as session:
            await orders.record_checkout(session, order.id, page, NOW)

    async def renew_page(self, order: Order, now: datetime = NOW) -> OrderState:
        """Stripe refused the order's Checkout Session for good."""
        async with self.db.transaction() as session:
            return await orders.renew_checkout(session, order.id, POLICY, now)

    async def lapse(self, order: Order) -> None:
        """Nobody came back to the order for so long that its seats are no longer held."""
        async with self.db.transaction() as session:
            await session.execute(
                text("update seat_holds set expires_at = :now where order_id = :id"), {"id": order.id, "now": NOW}
            )

    async def see(self, order: Order, *seen: CheckoutState) -> PaymentsSeen:
        async with self.db.transaction() as session:
            return await payments.record_seen(session, order.id, seen, NOW)

    async def book(self, order: Order, *, close: str | None = None, now: datetime = NOW) -> OrderState:
        async with self.db.transaction() as session:
            return await booking.apply(
                session,
                ApplyPayments(order_id=order.id, now=now, close=close),
                POLICY,
                livemode=False,
                workflow_id=f"order-{order.id}",
            )

    async def pay(self, order: Order, *seen: CheckoutState, close: str | None = None) -> OrderState:
        """Stores what Stripe says and books it."""
        await self.see(order, *(seen or [charged(order)]))
        return await self.book(order, close=close)

    async def rows(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        async with self.db.read() as session:
            return [tuple(row) for row in await session.execute(text(query), values)]

    async def order(self, order: Order) -> tuple[Any, ...]:
        """Status, closed reason, whether settled."""
        [row] = await self.rows(
            "select status, closed_reason, settled_at is not null from orders where id = :id", id=order.id
        )
        return row

    async def payments(self, order: Order) -> list[tuple[Any, ...]]:
        """Disposition, stray amount, its reason and whether settled, in the order of arrival."""
        return await self.rows(
            "select disposition, unapplied_amount, unapplied_reason, settled_at is not null from payments"
            " where order_id = :id order by created_at, id",
            id=order.id,
        )

    async def books(self, order: Order) -> dict[str, int]:
        """What the order moved on each ledger account, `account currency`, without those back at zero."""
        found = await self.rows(
            "select a.code || ' ' || e.currency, sum(e.amount)::bigint from ledger_entries e"
            " join ledger_accounts a on a.id = e.account_id join ledger_transactions t on t.id = e.transaction_id"
            " where t.order_id = :id group by 1 having sum(e.amount) <> 0",
            id=order.id,
        )
        return dict(found)

    async def access(self, student: UUID) -> set[UUID]:
        return {row[0] for row in await self.rows(
            "select course_id from enrollments where student_id = :id and status = 'active'", id=student
        )}  # fmt: skip

    async def claims(self, student: UUID) -> dict[UUID, str]:
        return dict(await self.rows(
            "select course_id, state from course_claims where student_id = :id and state <> 'released'", id=student
        ))  # fmt: skip

    async def held(self) -> int:
        [(count,)] = await self.rows("select count(*) from seat_holds")
        return int(count)

    async def events(self, order: Order) -> list[str]:
        found = await self.rows("select type from outbox where subject = :s order by seq", s=f"order/{order.id}")
        return [row[0] for row in found]

    async def told(self, kind: str, subject: UUID) -> list[tuple[Any, ...]]:
        """Who did what, on the subject's timeline; without what only staff may read."""
        return await self.rows(
            "select actor, kind from timeline_entries where subject_kind = :kind and subject_id = :id"
            " and audience = 'student' order by seq",
            kind=kind,
            id=subject,
        )

    async def facts(self) -> dict[str, list[str]]:
        """Every row of every table booking writes."""
        return {
            table: [row[0] for row in await self.rows(f"select to_jsonb(t)::text from {table} t order by 1")]  # noqa: S608
            for table in FACTS
        }
