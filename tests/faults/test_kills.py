"""Every process is killed with SIGKILL at each step boundary of a purchase; the purchase finishes all the same."""

import asyncio

import pytest

from tests.support.product import Product
from tests.support.shop import Purchase, Shop

pytestmark = pytest.mark.timeout(600)

WORKER = [
    "payments.open_checkout.before",
    "payments.open_checkout.after",
    "orders.record_checkout.before",
    "orders.record_checkout.after",
    "payments.read_payments.before",
    "payments.record.after",
    "orders.apply_payments.before",
    "orders.apply_payments.before_commit",
    "orders.apply_payments.after",
]
BOUNDARIES = [
    *(("worker", failpoint) for failpoint in WORKER),
    ("api", "api.order_placed"),
    ("api", "api.webhook_not_stored"),
    ("api", "api.webhook_stored"),
    ("relay", "relay.before_publish"),
    ("relay", "relay.after_publish"),
    ("processes", "consumer.processes.before_handle"),
    ("processes", "consumer.processes.after_commit"),
    ("notifications", "consumer.notifications.before_handle"),
    ("notifications", "consumer.notifications.after_commit"),
]


@pytest.mark.parametrize(("process", "failpoint"), BOUNDARIES)
async def test_killed_at_each_step_boundary(shop: Shop, product: Product, process: str, failpoint: str) -> None:
    course = await shop.course()
    await shop.quiet()
    product.arm(failpoint)
    buying = asyncio.create_task(_buy(shop, course))
    await product.died_at(process, failpoint)
    await product.start(process)
    await shop.bought_once(await buying)


async def _buy(shop: Shop, course: str) -> Purchase:
    purchase = await shop.order_stubbornly(course)
    assert await shop.sandbox.pay(purchase.checkout_url) == 200
    await shop.settled(purchase.order_id, timeout=180)
    return purchase
