"""Payments a bank takes days for: the page is completed long before there is money, and there may never be any."""

from functools import partial

from tests.support.sandbox import FAILS_LATER, PAYS_LATER, Sandbox
from tests.support.shop import Purchase, Shop
from tests.support.wait import until

DEBIT_DELAY = 180


async def _completed(shop: Shop, sandbox: Sandbox, card: str) -> tuple[str, Purchase]:
    """A course, and an order for it whose page was completed with that bank account."""
    course = await shop.course(capacity=1)
    purchase = await shop.order(course)
    assert await sandbox.pay(purchase.checkout_url, card=card) == 200
    await until(sandbox.delivered, timeout=60)
    return course, purchase


async def test_the_order_waits_for_its_money_and_cannot_be_canceled(shop: Shop, sandbox: Sandbox) -> None:
    course, purchase = await _completed(shop, sandbox, PAYS_LATER)
    cancel = partial(shop.product.http.post, f"/v1/orders/{purchase.order_id}/cancel", headers=purchase.student.headers)
    refused = await cancel()
    assert (refused.status_code, refused.json()["code"]) == (409, "PaymentUnderWay")
    assert await shop.status(purchase.order_id) == "paying"
    assert await shop.postings(purchase.order_id) == []
    await sandbox.advance(DEBIT_DELAY)
    await shop.settled(purchase.order_id)
    assert await shop.enrollments(course) == 1
    await shop.bought_once(purchase)


async def test_a_debit_that_fails_ends_the_order_and_gives_the_seat_back(shop: Shop, sandbox: Sandbox) -> None:
    course, purchase = await _completed(shop, sandbox, FAILS_LATER)
    await sandbox.advance(DEBIT_DELAY)
    await shop.has_status(purchase.order_id, "expired")
    assert await shop.postings(purchase.order_id) == []
    again = await shop.buy(course, student=purchase.student)
    assert again.order_id != purchase.order_id
    assert await shop.enrollments(course) == 1
