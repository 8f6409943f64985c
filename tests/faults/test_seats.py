"""Many buyers, few seats: as many enrollments as there are seats, and whatever is held for nothing comes back."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

import pytest

from core.ids import new_id
from tests.support.accounts import Account
from tests.support.sandbox import Sandbox
from tests.support.shop import Purchase, Shop, keys_used_once
from tests.support.wait import until

BUYERS, SEATS = 200, 30
ABANDONED, CANCELED = 12, 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def attempt(shop: Shop, student: Account, course: str) -> str | None:
    """Orders as a browser would, again while the shop is too busy to answer; None when no seat is left."""
    key = str(new_id())
    answer = await shop.place(student, course, key=key)
    while answer.status_code == 503:
        answer = await shop.place(student, course, key=key)
    if answer.status_code == 409:
        assert answer.json()["code"] == "SeatUnavailable"
        return None
    assert answer.status_code in (201, 202), answer.text
    order_id: str = answer.json()["id"]
    return order_id


async def rush(shop: Shop, students: Sequence[Account], course: str) -> tuple[list[Purchase], list[Account]]:
    """Everybody at once: who holds a seat now, and who was refused."""
    outcomes = await asyncio.gather(*(attempt(shop, student, course) for student in students))
    holders = [(student, order_id) for student, order_id in zip(students, outcomes, strict=True) if order_id]
    refused = [student for student, order_id in zip(students, outcomes, strict=True) if order_id is None]
    return [Purchase(student, order_id, await payment_page(shop, order_id)) for student, order_id in holders], refused


async def payment_page(shop: Shop, order_id: str) -> str:
    async def opened() -> str:
        found = await shop.rows("select url from checkout_sessions where order_id = :id", id=UUID(order_id))
        return str(found[0]["url"]) if found else ""

    return await until(opened, timeout=240, every=0.1)


async def pay(shop: Shop, purchase: Purchase) -> None:
    assert await shop.sandbox.pay(purchase.checkout_url) == 200
    await shop.settled(purchase.order_id, timeout=240)


async def abandon(shop: Shop, sandbox: Sandbox, purchase: Purchase) -> None:
    """Leaves the payment page until its time is up."""
    session_id = purchase.checkout_url.rsplit("/", 1)[-1].partition("#")[0]
    assert (await sandbox.http.post(f"/_sandbox/checkout/{session_id}/expire")).status_code == 200
    await shop.has_status(purchase.order_id, "expired", timeout=240)


async def cancel(shop: Shop, purchase: Purchase) -> None:
    path = f"/v1/orders/{purchase.order_id}/cancel"
    answer = await shop.product.http.post(path, headers=purchase.student.headers)
    while answer.status_code == 503:
        answer = await shop.product.http.post(path, headers=purchase.student.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


async def test_two_hundred_buyers_and_thirty_seats(shop: Shop, sandbox: Sandbox) -> None:
    course = await shop.course(capacity=SEATS)
    students = await asyncio.gather(*(shop.account() for _ in range(BUYERS)))

    holders, refused = await rush(shop, students, course)
    assert (len(holders), len(refused)) == (SEATS, BUYERS - SEATS)
    lost, kept = holders[:ABANDONED], holders[ABANDONED:]
    await asyncio.gather(
        *(abandon(shop, sandbox, purchase) for purchase in lost), *(pay(shop, purchase) for purchase in kept)
    )

    seconds, refused = await rush(shop, refused, course)
    assert len(seconds) == ABANDONED
    given_up, also_kept = seconds[:CANCELED], seconds[CANCELED:]
    await asyncio.gather(
        *(cancel(shop, purchase) for purchase in given_up), *(pay(shop, purchase) for purchase in also_kept)
    )

    thirds, refused = await rush(shop, refused, course)
    assert len(thirds) == CANCELED
    await asyncio.gather(*(pay(shop, purchase) for purchase in thirds))
    assert await rush(shop, refused, course) == ([], refused)

    await _late_money_buys_no_seat(shop, sandbox, lost[0])
    await _seats_add_up(shop, course, [*kept, *also_kept, *thirds])


async def _late_money_buys_no_seat(shop: Shop, sandbox: Sandbox, purchase: Purchase) -> None:
    assert await sandbox.pay(purchase.checkout_url, late=True) == 200
    await shop.returned(purchase.order_id, timeout=240)
    [refund] = await shop.rows("select reason, status from refunds where order_id = :id", id=UUID(purchase.order_id))
    assert refund == {"reason": "course_full", "status": "succeeded"}


async def _seats_add_up(shop: Shop, course: str, bought: Sequence[Purchase]) -> None:
    course_id = UUID(course)
    orders = await shop.rows(
        "select o.status from orders o join order_lines l on l.order_id = o.id where l.course_id = :id", id=course_id
    )
    assert Counter(row["status"] for row in orders) == {"paid": SEATS, "expired": ABANDONED, "canceled": CANCELED}
    enrolled = await shop.rows(
        "select student_id from enrollments where course_id = :id and status = 'active'", id=course_id
    )
    owners = sorted(purchase.student.user_id for purchase in bought)
    assert sorted(row["student_id"] for row in enrolled) == owners
    assert await shop.rows("select order_id from seat_holds where course_id = :id", id=course_id) == []
    claims = await shop.rows(
        "select student_id, state from course_claims where course_id = :id and state <> 'released'", id=course_id
    )
    assert {row["state"] for row in claims} == {"owned"}
    assert sorted(row["student_id"] for row in claims) == owners
    for purchase in bought:
        assert await shop.postings(purchase.order_id) == ["sale", "settle"]
    assert keys_used_once(await shop.sandbox.requests("/v1/checkout/sessions"))
    await shop.reconciles()
