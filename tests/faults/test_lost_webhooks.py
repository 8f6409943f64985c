"""Row 6 of docs/faults.md: every webhook is lost, and the poll a quarter of an hour after the checkout's end finds
the money. The real activities, PostgreSQL and the Stripe sandbox under a Temporal clock that can be moved."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.testing import WorkflowEnvironment

from core import clock
from core.db import Database
from core.ids import new_id
from core.integrations.stripe import StripeGateway
from core.settings import Settings
from domain.orders import POLL_AFTER
from services import orders
from tests.support import scenes
from tests.support.product import own_account
from tests.support.sandbox import Sandbox
from tests.support.wait import until
from tests.workflows.lab import Clock, skipping
from workflows import worker
from workflows.gateway import ProcessGateway
from workflows.shared import ids


class Shop:
    """Orders placed by rows, paid at a Stripe that tells nobody."""

    def __init__(self, db: Database, settings: Settings, environment: WorkflowEnvironment, sandbox: Sandbox) -> None:
        self.db, self.settings, self.sandbox = db, settings, sandbox
        self.gateway, self._temporal = ProcessGateway(settings, environment.client), environment

    async def order(self) -> tuple[UUID, str]:
        """An order and its payment page."""
        async with self.db.transaction() as session:
            teacher, student = await scenes.add_user(session), await scenes.add_user(session)
            course = await scenes.add_course(session, teacher.id, "Bread")
            order = await orders.place(
                session,
                student.id,
                [course.id],
                idempotency_key=str(new_id()),
                policy=self.settings.platform,
                now=clock.now(),
            )
        await self.gateway.place_order(order.id, update_id="place")
        async with self.db.read() as session:
            url = await orders.checkout_url(session, order)
        assert url is not None
        return order.id, url

    async def past_the_poll(self, order_id: UUID) -> None:
        """Moves the process's clock beyond the poll after its checkout's end."""
        handle = self._temporal.client.get_workflow_handle(ids.process_id("order", order_id))
        beyond = timedelta(seconds=self.settings.platform.checkout_ttl) + 2 * POLL_AFTER
        await Clock(self._temporal).advance(handle, beyond)

    async def becomes(self, order_id: UUID, status: str) -> None:
        async def arrived() -> bool:
            async with self.db.read() as session:
                return (await orders.get_own(session, order_id, None)).status == status

        await until(arrived, timeout=60)


@pytest.fixture(scope="module")
async def shop(settings: Settings, db: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    home: Path = tmp_path_factory.mktemp("lost")
    own = own_account(settings, home)
    patient = own.temporal.model_copy(update={"rpc_timeout": 25.0})  # a busy machine is not an outage
    own = own.model_copy(update={"temporal": patient})
    sandbox, stripe = Sandbox(own), StripeGateway(own.stripe)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stripe.aclose)
        stack.push_async_callback(sandbox.aclose)
        environment = await stack.enter_async_context(skipping(own, "lost"))
        for each in worker.build(environment.client, ["core", "stripe"], db, stripe, own):
            await stack.enter_async_context(each)
        yield Shop(db, own, environment, sandbox)


async def test_the_poll_finds_the_payment(shop: Shop) -> None:
    order_id, url = await shop.order()
    assert await shop.sandbox.pay(url) == 200
    await shop.past_the_poll(order_id)
    await shop.becomes(order_id, "paid")


async def test_the_poll_ends_an_order_nobody_paid(shop: Shop) -> None:
    order_id, url = await shop.order()
    await shop.past_the_poll(order_id)
    await shop.becomes(order_id, "expired")
    assert await shop.sandbox.pay(url) == 400
