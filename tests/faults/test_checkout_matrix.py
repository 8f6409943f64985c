"""The fault matrix of the checkout (docs/faults.md), against the sandbox's faults and killed processes."""

import asyncio
from typing import Any
from uuid import UUID

import httpx2
import pytest

from domain.identity import Role
from tests.support.product import Product
from tests.support.sandbox import Sandbox
from tests.support.shop import PRICE, Shop, keys_used_once
from tests.support.wait import until

pytestmark = pytest.mark.timeout(600)

CREATE = "/v1/checkout/sessions"


@pytest.fixture(autouse=True)
async def _fair_weather(sandbox: Sandbox) -> Any:
    yield
    await sandbox.deliveries()
    await sandbox.http.delete("/_sandbox/faults")


async def _sessions(shop: Shop, order_id: str) -> list[dict[str, Any]]:
    return await shop.rows("select * from checkout_sessions where order_id = :id", id=UUID(order_id))


async def _bought_once(shop: Shop, course: str, order_id: str) -> None:
    assert await shop.postings(order_id) == ["sale", "settle"]
    assert await shop.enrollments(course) == 1
    assert sorted(await shop.events(order_id)) == ["order.paid.v1", "order.placed.v1", "order.settled.v1"]
    assert keys_used_once(await shop.sandbox.requests(CREATE))
    await shop.reconciles()


async def test_row_1_worker_killed_before_the_session_is_created(shop: Shop, product: Product) -> None:
    course = await shop.course()
    student = await shop.account()
    product.arm("payments.open_checkout.before")
    placing = asyncio.create_task(shop.place(student, course))
    await product.died_at("worker", "payments.open_checkout.before")
    await product.start("worker")
    answer = await placing
    assert answer.status_code in (201, 202)

    order_id = answer.json()["id"]
    await until(lambda: _sessions(shop, order_id), timeout=60)
    assert len(await _sessions(shop, order_id)) == 1
    purchase = await shop.order(course, student=student)
    assert purchase.order_id == order_id
    await shop.sandbox.pay(purchase.checkout_url)
    await shop.settled(order_id)
    await _bought_once(shop, course, order_id)


async def test_row_2_session_created_but_its_answer_is_lost(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course()
    await sandbox.fault("POST", CREATE, "drop_after_commit", times=2)
    purchase = await shop.buy(course)

    created = [entry for entry in await sandbox.requests(CREATE) if entry["key"] == f"co:{purchase.order_id}:1"]
    assert len(created) == 3
    assert [entry["replayed"] for entry in created] == [False, True, True]
    await _bought_once(shop, course, purchase.order_id)


async def test_row_3_webhook_arrives_before_the_session_is_stored(shop: Shop, product: Product) -> None:
    """The session exists at Stripe, the worker dies before it can say so, and the student has already paid."""
    course = await shop.course()
    student = await shop.account()
    product.arm("payments.open_checkout.after")
    placing = asyncio.create_task(shop.place(student, course))
    await product.died_at("worker", "payments.open_checkout.after")
    listed = await shop.sandbox.http.get("/v1/checkout/sessions", params={"limit": 1})
    [session] = listed.json()["data"]
    order_id = session["client_reference_id"]
    assert await shop.sandbox.pay(session["url"]) == 200

    async def stored() -> int:
        count: int = await shop.value(
            "select count(*) from stripe_events where process_subject = :id", id=UUID(order_id)
        )
        return count

    await until(stored)
    await product.start("worker")
    await placing
    await shop.settled(order_id)
    await _bought_once(shop, course, order_id)


async def test_row_4_every_webhook_three_times_and_shuffled(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course()
    await sandbox.deliveries(duplicate=2, reorder=True)
    purchase = await shop.buy(course)
    await sandbox.deliveries()
    await sandbox.redeliver()
    await until(sandbox.delivered, timeout=60)

    await _bought_once(shop, course, purchase.order_id)
    stored = await shop.rows("select id from stripe_events where process_subject = :id", id=UUID(purchase.order_id))
    assert len(stored) == len({row["id"] for row in stored})


async def test_row_5_balance_transaction_comes_later(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course()
    await sandbox.http.put("/_sandbox/settings", json={"balance_transaction_delay": 3600})
    try:
        purchase = await shop.buy(course, settled=False)
        assert await shop.postings(purchase.order_id) == ["sale"]
        assert await shop.enrollments(course) == 1
    finally:
        await sandbox.http.put("/_sandbox/settings", json={"balance_transaction_delay": 1})
    await sandbox.advance(3601)
    await shop.settled(purchase.order_id)
    await _bought_once(shop, course, purchase.order_id)


async def test_row_7_paid_while_it_is_being_canceled(shop: Shop, sandbox: Sandbox) -> None:
    """The payment is captured, its webhook is not there yet, and the student cancels: paid wins."""
    course = await shop.course()
    await sandbox.deliveries(drop=True)
    purchase = await shop.order(course)
    assert await sandbox.pay(purchase.checkout_url) == 200

    async def answered() -> httpx2.Response | None:
        path = f"/v1/orders/{purchase.order_id}/cancel"
        answer = await shop.product.http.post(path, headers=purchase.student.headers)
        return None if answer.status_code == 503 else answer  # the process needed longer than the API waits

    answer = await until(answered, timeout=90)
    assert answer.status_code == 409
    assert answer.json()["code"] == "OrderClosed"
    assert await shop.status(purchase.order_id) == "paid"
    await sandbox.deliveries()
    await sandbox.redeliver()
    await shop.settled(purchase.order_id)
    await _bought_once(shop, course, purchase.order_id)


async def test_row_8_late_payment_is_accepted_while_the_course_is_open(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course(capacity=1)
    purchase = await shop.order(course)
    await _expire(shop, purchase.order_id, purchase.checkout_url)
    assert await sandbox.pay(purchase.checkout_url, late=True) == 200

    await shop.settled(purchase.order_id)
    assert await shop.status(purchase.order_id) == "paid"
    assert await shop.postings(purchase.order_id) == ["sale", "settle"]
    assert await shop.enrollments(course) == 1


async def test_row_8_late_payment_goes_back_when_the_seat_is_gone(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course(capacity=1)
    purchase = await shop.order(course)
    await _expire(shop, purchase.order_id, purchase.checkout_url)
    winner = await shop.buy(course)
    assert await sandbox.pay(purchase.checkout_url, late=True) == 200

    await shop.returned(purchase.order_id)
    await shop.settled(purchase.order_id)
    assert await shop.status(purchase.order_id) == "expired"
    assert await shop.postings(purchase.order_id) == ["refund_settle", "settle", "unapplied", "unapplied_refund"]
    assert await shop.enrollments(course) == 1
    assert await shop.status(winner.order_id) == "paid"
    assert "payment.returned.v1" in await shop.events(purchase.order_id)
    await shop.reconciles()


async def _expire(shop: Shop, order_id: str, checkout_url: str) -> None:
    session_id = checkout_url.rsplit("/", 1)[-1]
    assert (await shop.sandbox.http.post(f"/_sandbox/checkout/{session_id}/expire")).status_code == 200
    await shop.has_status(order_id, "expired")


async def test_row_9_two_sessions_of_one_order_are_paid(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course()
    purchase = await shop.order(course)
    session_id = purchase.checkout_url.rsplit("/", 1)[-1]
    second = (await sandbox.http.post(f"/_sandbox/checkout/{session_id}/duplicate")).json()
    first_paid, second_paid = await asyncio.gather(
        sandbox.pay(purchase.checkout_url), sandbox.pay(second["url"], late=True)
    )
    assert (first_paid, second_paid) == (200, 200)

    await shop.returned(purchase.order_id)
    await shop.settled(purchase.order_id)
    assert await shop.status(purchase.order_id) == "paid"
    assert await shop.postings(purchase.order_id) == [
        "refund_settle", "sale", "settle", "settle", "unapplied", "unapplied_refund",
    ]  # fmt: skip
    [refund] = await shop.rows("select amount, reason from refunds where order_id = :id", id=UUID(purchase.order_id))
    assert refund == {"amount": PRICE, "reason": "duplicate"}
    assert await shop.enrollments(course) == 1
    await shop.reconciles()


async def test_row_9_the_same_course_is_paid_twice(shop: Shop, sandbox: Sandbox) -> None:
    """The first order expires, the student orders again and pays both."""
    course = await shop.course()
    student = await shop.account()
    first = await shop.order(course, student=student)
    await _expire(shop, first.order_id, first.checkout_url)
    second = await shop.buy(course, student=student)
    assert await sandbox.pay(first.checkout_url, late=True) == 200

    await shop.returned(first.order_id)
    assert await shop.status(second.order_id) == "paid"
    assert await shop.enrollments(course) == 1
    [refund] = await shop.rows("select amount, reason from refunds where order_id = :id", id=UUID(first.order_id))
    assert refund == {"amount": PRICE, "reason": "already_owned"}
    await shop.reconciles()


async def test_row_10_price_changed_and_course_unpublished_while_paying(shop: Shop, sandbox: Sandbox) -> None:
    teacher = await shop.account(Role.TEACHER, Role.STUDENT)
    course = await shop.course(teacher=teacher)
    purchase = await shop.order(course)
    changed = await shop.product.http.patch(
        f"/v1/courses/{course}", json={"price": {"amount": 9900, "currency": "usd"}}, headers=teacher.headers
    )
    assert changed.status_code == 200
    unpublished = await shop.product.http.post(f"/v1/courses/{course}/unpublish", headers=teacher.headers)
    assert unpublished.status_code == 200
    assert await sandbox.pay(purchase.checkout_url) == 200

    await shop.settled(purchase.order_id)
    assert await shop.postings(purchase.order_id) == ["sale", "settle"]
    [payment] = await shop.rows("select amount from payments where order_id = :id", id=UUID(purchase.order_id))
    assert payment["amount"] == PRICE
    assert await shop.enrollments(course) == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [({"amount": PRICE - 1}, "amount_mismatch"), ({"currency": "eur"}, "currency_mismatch")],
)
async def test_row_11_wrong_money_goes_back(shop: Shop, sandbox: Sandbox, wrong: dict[str, Any], reason: str) -> None:
    course = await shop.course()
    purchase = await shop.order(course)
    assert await sandbox.pay(purchase.checkout_url, **wrong) == 200

    await shop.returned(purchase.order_id)
    [refund] = await shop.rows("select amount, reason from refunds where order_id = :id", id=UUID(purchase.order_id))
    assert refund == {"amount": wrong.get("amount", PRICE), "reason": reason}
    assert await shop.enrollments(course) == 0
    assert await shop.status(purchase.order_id) == "expired"


async def test_row_12_relay_killed_between_commit_and_publish(shop: Shop, product: Product) -> None:
    course = await shop.course()
    await shop.quiet()
    product.arm("relay.before_publish")
    purchase = await shop.buy(course)
    await product.died_at("relay", "relay.before_publish")
    product.arm("relay.after_publish")
    await product.spawn("relay")
    await product.died_at("relay", "relay.after_publish")
    await product.start("relay")

    async def notified() -> int:
        count: int = await shop.value(
            "select count(*) from notifications where user_id = :id and kind = 'order.paid'",
            id=purchase.student.user_id,
        )
        return count

    assert await until(notified, timeout=60) == 1
    await until(lambda: _published(shop), timeout=60)
    assert await notified() == 1
    await _bought_once(shop, course, purchase.order_id)


async def _published(shop: Shop) -> bool:
    return bool(await shop.value("select count(*) = 0 from outbox where published_at is null"))
