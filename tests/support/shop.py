"""A shop in motion: students who buy through the API, and what the database says came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import httpx2
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from core import clock
from core.db import Database
from core.ids import new_id
from core.messaging.topology import SUBSCRIPTIONS
from core.security.tokens import Tokens
from domain.identity import Role
from services.ledger_checks import find_breaks
from tests.support.accounts import Account, sign_in
from tests.support.authoring import Author
from tests.support.product import Product
from tests.support.sandbox import Sandbox
from tests.support.wait import until

PRICE = 4900

_ON_ITS_WAY = """
select exists (
  select from outbox where published_at is null or created_at > :since and type = any(:types)
    and not exists (select from inbox where consumer = :consumer and event_id = outbox.id))
"""


@dataclass(frozen=True)
class Purchase:
    student: Account
    order_id: str
    checkout_url: str


class Shop:
    def __init__(self, product: Product, sandbox: Sandbox, db: Database) -> None:
        self.product, self.sandbox, self.db = product, sandbox, db
        self._tokens = Tokens(product.settings.auth)
        self._opened = clock.now()

    async def account(self, *roles: Role) -> Account:
        return await sign_in(self.db, self._tokens, *roles)

    async def course(self, *, teacher: Account | None = None, **fields: Any) -> str:
        """A published course; by default of a new teacher, for 49 dollars and without a capacity."""
        teacher = teacher or await self.account(Role.TEACHER, Role.STUDENT)
        author = Author(self.product.http, teacher.headers)
        course_id, _, _ = await author.published(
            **{"price": {"amount": PRICE, "currency": "usd"}, "capacity": None} | fields
        )
        return course_id

    async def place(self, student: Account, *course_ids: str, key: str | None = None) -> Any:
        """`POST /orders` as it is answered."""
        return await self.product.http.post(
            "/v1/orders",
            json={"items": [{"course_id": course_id} for course_id in course_ids]},
            headers={**student.headers, "Idempotency-Key": key or str(new_id())},
        )

    async def order(self, *course_ids: str, student: Account | None = None) -> Purchase:
        """A placed order with its payment page."""
        student = student or await self.account()
        answer = await self.place(student, *course_ids)
        assert answer.status_code in (201, 202), answer.text
        order_id = answer.json()["id"]
        url = answer.json()["checkout_url"] or await until(lambda: self._checkout_url(student, order_id), timeout=60)
        return Purchase(student, order_id, url)

    async def _checkout_url(self, student: Account, order_id: str) -> str | None:
        url: str | None = (await self.read(student, order_id))["checkout_url"]
        return url

    async def order_stubbornly(self, course_id: str, *, timeout: float = 240) -> Purchase:
        """As a person would while things break: the same order is sent again until it is answered."""
        student, key = await self.account(), str(new_id())

        async def answered() -> Purchase | None:
            try:
                answer = await self.place(student, course_id, key=key)
            except httpx2.TransportError:
                return None
            if answer.status_code == 503:
                return None
            assert answer.status_code in (201, 202), answer.text
            order = answer.json()
            return Purchase(student, order["id"], order["checkout_url"]) if order["checkout_url"] else None

        purchase = await until(answered, timeout=timeout, every=0.5)
        assert purchase is not None
        return purchase

    async def bought_once(self, *purchases: Purchase) -> None:
        """Each purchase: one sale, one settlement, one enrollment, one event of each kind, one notification; and the
        ledger is what Stripe says."""
        for purchase in purchases:
            assert await self.status(purchase.order_id) == "paid"
            assert await self.postings(purchase.order_id) == ["sale", "settle"]
            assert sorted(await self.events(purchase.order_id)) == [
                "order.paid.v1", "order.placed.v1", "order.settled.v1",
            ]  # fmt: skip
            who = {"id": purchase.student.user_id}
            enrolled = "select count(*) from enrollments where student_id = :id and status = 'active'"
            assert await self.value(enrolled, **who) == 1
            assert await until(partial(self._notified, **who), timeout=90) == 1
        assert keys_used_once(await self.sandbox.requests("/v1/checkout/sessions"))
        await self.reconciles()

    async def _notified(self, id: UUID) -> int:
        query = "select count(*) from notifications where user_id = :id and kind = 'order.paid'"
        found: int = await self.value(query, id=id)
        return found

    async def read(self, student: Account, order_id: str) -> dict[str, Any]:
        answer = await self.product.http.get(f"/v1/orders/{order_id}", headers=student.headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def buy(self, *course_ids: str, student: Account | None = None, settled: bool = True) -> Purchase:
        """Orders, pays with a good card and waits until the order is settled (or just paid)."""
        purchase = await self.order(*course_ids, student=student)
        assert await self.sandbox.pay(purchase.checkout_url) == 200
        await (self.settled(purchase.order_id) if settled else self.has_status(purchase.order_id, "paid"))
        return purchase

    async def rows(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """What the database says, as soon as it says anything: tests take it away."""

        async def answered() -> tuple[list[dict[str, Any]]] | None:
            try:
                async with self.db.read() as session:
                    return ([dict(row) for row in (await session.execute(text(query), values)).mappings()],)
            except (DBAPIError, OSError) as error:
                if isinstance(error, ProgrammingError):
                    raise
                return None

        answer = await until(answered, timeout=90, every=0.2)
        return answer[0] if answer else []

    async def value(self, query: str, **values: Any) -> Any:
        [row] = await self.rows(query, **values)
        [value] = row.values()
        return value

    async def status(self, order_id: str) -> str:
        found: str = await self.value("select status from orders where id = :id", id=UUID(order_id))
        return found

    async def has_status(self, order_id: str, status: str, *, timeout: float = 60) -> None:
        async def arrived() -> bool:
            return await self.status(order_id) == status

        await until(arrived, timeout=timeout, every=0.05)

    async def settled(self, order_id: str, *, timeout: float = 90) -> None:
        """Waits until every charge of the order is booked and settled, and one at least is."""

        async def arrived() -> bool:
            found: bool = await self.value(
                "select coalesce(bool_and(settled_at is not null), false) from payments where order_id = :id",
                id=UUID(order_id),
            )
            return found

        await until(arrived, timeout=timeout, every=0.05)

    async def returned(self, order_id: str, *, timeout: float = 90) -> None:
        """Waits until the stray money of the order went back."""

        async def arrived() -> bool:
            query = "select count(*) = 1 and bool_and(status = 'succeeded') from refunds where order_id = :id"
            return bool(await self.value(query, id=UUID(order_id)))

        await until(arrived, timeout=timeout, every=0.05)

    async def postings(self, order_id: str) -> list[str]:
        """The kinds of the order's ledger transactions, sorted."""
        found = await self.rows("select kind from ledger_transactions where order_id = :id", id=UUID(order_id))
        return sorted(row["kind"] for row in found)

    async def enrollments(self, course_id: str) -> int:
        found: int = await self.value(
            "select count(*) from enrollments where course_id = :id and status = 'active'", id=UUID(course_id)
        )
        return found

    async def events(self, order_id: str) -> list[str]:
        """The types of the order's events, in order."""
        found = await self.rows("select type from outbox where subject = :s order by seq", s=f"order/{order_id}")
        return [row["type"] for row in found]

    async def quiet(self) -> None:
        """Waits until nothing is on its way: what happened since this shop opened is published and handled, and Stripe
        has no webhook to deliver. A failpoint that is armed then kills at what comes next."""

        async def quiet() -> bool:
            on_its_way = [
                await self.value(
                    _ON_ITS_WAY,
                    consumer=consumer,
                    types=[event.type for event in SUBSCRIPTIONS[consumer].events],
                    since=self._opened,
                )
                for consumer in ("processes", "notifications")
            ]
            return not any(on_its_way) and await self.sandbox.delivered()

        await until(quiet, timeout=90)

    async def reconciles(self, *, timeout: float = 60) -> None:
        """Waits until each balance transaction of the sandbox is booked at its net; the books hold every invariant."""

        async def equal() -> bool:
            at_stripe = {entry["id"]: entry["net"] for entry in await self.sandbox.balance_transactions()}
            booked = await self.rows(
                "select t.stripe_balance_txn, sum(e.amount)::bigint net from ledger_transactions t"
                " join ledger_entries e on e.transaction_id = t.id join ledger_accounts a on a.id = e.account_id"
                " where a.code = 'stripe_balance' and t.stripe_balance_txn = any(:ids) group by 1",
                ids=list(at_stripe),
            )
            return {row["stripe_balance_txn"]: row["net"] for row in booked} == at_stripe

        await until(equal, timeout=timeout)
        async with self.db.read() as session:
            assert await find_breaks(session) == []


def keys_used_once(requests: Sequence[dict[str, Any]]) -> bool:
    """Whether each idempotency key made Stripe do something exactly once."""
    executed = [entry["key"] for entry in requests if entry["status"] == 200 and not entry["replayed"]]
    return len(executed) == len(set(executed))
