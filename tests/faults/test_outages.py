"""Each server is stopped for 20 seconds in the middle of 20 running purchases; all 20 finish right."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.db import Database
from deploy.setup import setup
from tests.faults.conftest import PROCESSES
from tests.support import isolation
from tests.support import stack as servers
from tests.support.product import own_account, running
from tests.support.sandbox import Sandbox
from tests.support.shop import Purchase, Shop
from tests.support.stack import Servers

pytestmark = pytest.mark.timeout(600)

PURCHASES = 20
OUTAGE_SECONDS = 20


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Servers]:
    """A stack of its own, because it is going to be hurt."""
    own = Servers(servers.HOME / "outages")
    own.acquire(os.getpid())
    yield own
    own.release(os.getpid())


@pytest.fixture(scope="module")
async def shop(own_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    home: Path = tmp_path_factory.mktemp("outages")
    async with isolation.corner(own_servers) as corner:
        settings = own_account(corner, home)
        await setup(settings)
        sandbox, db = Sandbox(settings), Database(settings.database, application_name="tests")
        await sandbox.listen()
        async with running(settings, home, (*PROCESSES, "search")) as product:
            yield Shop(product, sandbox, db)
        await sandbox.aclose()
        await db.dispose()


@pytest.mark.parametrize("service", ["postgres", "rabbitmq", "valkey", "opensearch", "s3", "temporal"])
async def test_twenty_purchases_survive_an_outage(shop: Shop, own_servers: Servers, service: str) -> None:
    course = await shop.course()
    begun = asyncio.Semaphore(0)
    buying = [asyncio.create_task(_buy(shop, course, begun, late=number % 2 == 1)) for number in range(PURCHASES)]
    for _ in range(PURCHASES // 4):
        await begun.acquire()
    async with own_servers.without(service):
        await asyncio.sleep(OUTAGE_SECONDS)  # the outage itself; nothing is waited for

    purchases = await asyncio.gather(*buying)
    assert len({purchase.order_id for purchase in purchases}) == PURCHASES
    await shop.bought_once(*purchases)
    assert await shop.enrollments(course) == PURCHASES


async def _buy(shop: Shop, course: str, begun: asyncio.Semaphore, *, late: bool) -> Purchase:
    purchase = await shop.order_stubbornly(course)
    begun.release()
    if late:
        await asyncio.sleep(OUTAGE_SECONDS / 4)  # these pay while the server is away
    assert await shop.sandbox.pay(purchase.checkout_url) == 200
    await shop.settled(purchase.order_id, timeout=240)
    return purchase
