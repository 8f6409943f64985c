"""Where orders are placed and paid: the application, its worker and a Stripe account, all in this process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2

from api.container import AppContainer
from core.db import Database
from core.ids import new_id
from core.integrations.stripe import StripeGateway
from core.settings import Settings
from core.temporal import connect
from domain.identity import Role
from tests.api.conftest import serving
from tests.api.webhooks import post_event
from tests.support import isolation, scenes
from tests.support.accounts import Account, sign_in
from tests.support.product import own_account
from tests.support.sandbox import Sandbox
from tests.support.stack import Servers
from tests.support.wait import until
from workflows import schedules, worker

PRICE = 4900


def without_temporal(settings: Settings) -> Settings:
    """The same, but nobody listens where Temporal should be."""
    return settings.model_copy(
        update={"temporal": settings.temporal.model_copy(update={"address": "127.0.0.1:1", "rpc_timeout": 2.0})}
    )


@dataclass
class Counter:
    """`client` calls the application; `sandbox` controls Stripe, whose webhooks arrive when they are delivered."""

    settings: Settings
    container: AppContainer
    client: httpx2.AsyncClient
    sandbox: Sandbox
    db: Database

    async def account(self, *roles: Role) -> Account:
        return await sign_in(self.db, self.container.tokens, *roles)

    async def course(
        self, price: int | None = PRICE, *, title: str = "Tides", owner: UUID | None = None, **fields: Any
    ) -> str:
        """A published course without a capacity, unless `fields` (columns) say otherwise."""
        async with self.db.transaction() as session:
            owner_id = owner or (await scenes.add_user(session)).id
            course = await scenes.add_course(session, owner_id, title, price)
            for name, value in fields.items():
                setattr(course, name, value)
            return str(course.id)

    async def place(
        self, student: Account, *course_ids: str, key: str | None = None, client: httpx2.AsyncClient | None = None
    ) -> httpx2.Response:
        """`POST /v1/orders` as it is answered (by another application, when `client` is given)."""
        return await (client or self.client).post(
            "/v1/orders",
            json={"items": [{"course_id": course_id} for course_id in course_ids]},
            headers={**student.headers, "Idempotency-Key": key or str(new_id())},
        )

    async def order(self, student: Account, *course_ids: str) -> dict[str, Any]:
        answer = await self.place(student, *course_ids)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def get(self, path: str, who: Account, **query: Any) -> Any:
        answer = await self.client.get(f"/v1{path}", headers=who.headers, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def cancel(self, student: Account, order_id: str) -> httpx2.Response:
        return await self.client.post(f"/v1/orders/{order_id}/cancel", headers=student.headers)

    async def pay(self, order: dict[str, Any], student: Account) -> dict[str, Any]:
        """Pays with a good card, delivers Stripe's webhooks and waits until the order is paid and settled."""
        assert await self.sandbox.pay(order["checkout_url"]) == 200

        async def settled() -> dict[str, Any] | None:
            await self.deliver()
            found: dict[str, Any] = await self.get(f"/orders/{order['id']}", student)
            return found if found["settled_at"] else None

        paid = await until(settled, timeout=60, every=0.2)
        assert paid is not None
        return paid

    async def events(self) -> list[dict[str, Any]]:
        """What Stripe has to tell, oldest first."""
        answer = await self.sandbox.http.get("/v1/events", params={"limit": 100})
        return list(reversed(answer.json()["data"]))

    async def deliver(self) -> None:
        """Hands Stripe's events to the webhook, as often as it is called."""
        for event in await self.events():
            answer = await post_event(self.client, self.settings, event)
            assert answer.status_code == 200, answer.text

    async def arrives(self, student: Account, order_id: str, status: str) -> dict[str, Any]:
        """Waits until the order has that status."""

        async def arrived() -> dict[str, Any] | None:
            found: dict[str, Any] = await self.get(f"/orders/{order_id}", student)
            return found if found["status"] == status else None

        order = await until(arrived, timeout=60, every=0.05)
        assert order is not None
        return order


@asynccontextmanager
async def shop_settings(servers: Servers, home: Path) -> AsyncIterator[Settings]:
    """A corner of the servers and a Stripe account that no other test uses."""
    async with isolation.corner(servers) as corner:
        own = own_account(corner, home)
        patient = own.temporal.model_copy(update={"rpc_timeout": 25.0})  # a busy machine is not an outage
        yield own.model_copy(update={"temporal": patient})


@asynccontextmanager
async def opened(settings: Settings, *, working: bool = True) -> AsyncIterator[Counter]:
    """A counter over `settings`; unless `working` nobody runs its processes."""
    async with AsyncExitStack() as stack:
        app, client = await stack.enter_async_context(serving(settings))
        sandbox = Sandbox(settings)
        stack.push_async_callback(sandbox.aclose)
        await sandbox.http.put("/_sandbox/settings", json={"balance_transaction_delay": 0})
        if working:
            await stack.enter_async_context(at_work(settings))
        container: AppContainer = app.state.container
        yield Counter(settings, container, client, sandbox, container.db)


@asynccontextmanager
async def at_work(settings: Settings) -> AsyncIterator[None]:
    """A worker for every queue the processes of orders and enrollments use."""
    db, stripe = Database(settings.database, application_name="worker"), StripeGateway(settings.stripe)
    client = await connect(settings)
    await schedules.register_search_attributes(client)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(db.dispose)
        stack.push_async_callback(stripe.aclose)
        for each in worker.build(client, ("core", "stripe"), db, stripe, settings):
            await stack.enter_async_context(each)
        yield
