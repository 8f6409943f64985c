"""Failures that Stripe keeps under a key for a day: the same call would fail again for as long."""

import pytest

from tests.support.sandbox import Sandbox
from tests.support.shop import Shop

CREATE = "/v1/checkout/sessions"


@pytest.mark.timeout(300)
async def test_no_number_of_stored_failures_ends_an_order(shop: Shop, sandbox: Sandbox) -> None:
    """Only what Stripe refuses does; a number that is spent is followed by the next."""
    course = await shop.course()
    await sandbox.fault("POST", CREATE, "500_stored", times=3)
    student = await shop.account()
    answer = await shop.place(student, course)
    assert answer.status_code == 202
    order_id = answer.json()["id"]
    await shop.has_status(order_id, "paying", timeout=200)
    purchase = await shop.order(course, student=student)
    assert purchase.order_id == order_id
    assert await sandbox.pay(purchase.checkout_url) == 200
    await shop.settled(order_id)
    await shop.bought_once(purchase)


async def test_a_page_whose_end_failed_is_ended_by_the_next_try(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course(capacity=1)
    purchase = await shop.order(course)
    session = purchase.checkout_url.rsplit("/", 1)[-1].partition("#")[0]
    await sandbox.fault("POST", f"{CREATE}/{session}/expire", "500_stored")
    answer = await shop.product.http.post(f"/v1/orders/{purchase.order_id}/cancel", headers=purchase.student.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert await sandbox.pay(purchase.checkout_url) != 200
    assert (await shop.place(await shop.account(), course)).status_code == 201
