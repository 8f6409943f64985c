"""Orders as clients meet them: placing, paying, canceling, reading."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core import clock
from core.ids import new_id
from core.messaging.envelope import Envelope
from core.settings import Settings
from domain.contracts.events import OrderPlaced
from domain.identity import Role
from models.course import Course
from tests.api.conftest import serving
from tests.api.counter import PRICE, Counter, opened, shop_settings, without_temporal
from tests.support.authoring import Author, problem
from tests.support.stack import Servers
from workflows import starter

CHECKOUTS = "/v1/checkout/sessions"


@pytest.fixture(scope="module")
async def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    async with shop_settings(servers, tmp_path_factory.mktemp("house")) as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def shop(house: Settings) -> AsyncIterator[Counter]:
    async with opened(house) as counter:
        yield counter


async def created_at_stripe(shop: Counter, order_id: str) -> int:
    """How many Checkout Sessions Stripe was asked for."""
    return sum(entry["key"] == f"co:{order_id}:1" for entry in await shop.sandbox.requests(CHECKOUTS))


# Placing


async def test_an_order_is_placed_with_its_payment_page(shop: Counter) -> None:
    student, first, second = (
        await shop.account(),
        await shop.course(title="Tides"),
        await shop.course(2100, title="Bread"),
    )
    before = clock.now()
    answer = await shop.place(student, first, second)
    assert answer.status_code == 201
    order = answer.json()
    assert answer.headers["Location"] == f"/v1/orders/{order['id']}"
    assert order["checkout_url"].startswith(f"{shop.settings.stripe.api_base}/c/pay/cs_test_")
    line = {"discount": 0, "granted_at": None}
    assert order == {
        "id": order["id"],
        "status": "paying",
        "currency": "usd",
        "list_total": 7000,
        "discount_total": 0,
        "tax_total": 0,
        "gross": 7000,
        "lines": [
            line | {"course_id": first, "title": "Tides", "list_amount": 4900, "net": 4900},
            line | {"course_id": second, "title": "Bread", "list_amount": 2100, "net": 2100},
        ],
        "checkout_url": order["checkout_url"],
        "expires_at": order["expires_at"],
        "created_at": order["created_at"],
        "paid_at": None,
        "settled_at": None,
        "closed_at": None,
        "closed_reason": None,
    }
    life = datetime.fromisoformat(order["expires_at"]) - before
    assert timedelta(minutes=30) < life < timedelta(minutes=33)
    assert await shop.get(f"/orders/{order['id']}", student) == order


async def test_the_same_key_answers_with_the_same_order(shop: Counter) -> None:
    student, course, key = await shop.account(), await shop.course(), "my-key"
    answers = [await shop.place(student, course, key=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[1].json() == answers[2].json() == answers[0].json()
    assert answers[1].headers["Location"] == answers[0].headers["Location"]
    order = answers[0].json()
    assert await created_at_stripe(shop, order["id"]) == 1
    paid = await shop.pay(order, student)
    assert (await shop.place(student, course, key=key)).json() == paid
    assert (paid["status"], paid["checkout_url"]) == ("paid", None)
    stranger = await shop.place(await shop.account(), course, key=key)  # a key belongs to who sent it
    assert stranger.status_code == 201
    assert stranger.json()["id"] != order["id"]


async def test_the_same_key_for_another_basket_is_refused(shop: Counter) -> None:
    student, course, other = await shop.account(), await shop.course(), await shop.course()
    order = (await shop.place(student, course, key="once")).json()
    for basket in ([other], [course, other], [str(uuid4())]):
        answer = await shop.place(student, *basket, key="once")
        assert problem(answer) == (422, "IdempotencyKeyReused", [("Idempotency-Key", "IdempotencyKeyReused")])
    assert (await shop.get("/me/orders", student))["items"] == [order]


async def test_another_click_on_an_open_basket_meets_the_same_order(shop: Counter) -> None:
    student, first, second = await shop.account(), await shop.course(), await shop.course()
    order = await shop.order(student, first, second)
    assert await shop.order(student, second, first) == order
    assert await created_at_stripe(shop, order["id"]) == 1


async def test_the_key_of_another_click_goes_on_answering_with_the_order_it_met(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course()
    order = (await shop.place(student, course, key="first")).json()
    assert (await shop.place(student, course, key="second")).json() == order
    paid = await shop.pay(order, student)
    for key in ("second", "first"):
        answer = await shop.place(student, course, key=key)
        assert (answer.status_code, answer.json()) == (201, paid)
    other = await shop.place(student, await shop.course(), key="second")
    assert problem(other) == (422, "IdempotencyKeyReused", [("Idempotency-Key", "IdempotencyKeyReused")])
    third = await shop.place(student, course, key="third")
    assert problem(third)[:2] == (409, "AlreadyEnrolled")


async def test_an_open_basket_at_a_former_price_is_not_sold_again_in_silence(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course()
    order = (await shop.place(student, course, key="first")).json()
    async with shop.db.transaction() as session:
        (await session.get_one(Course, UUID(course))).price_amount = 1900
    answer = await shop.place(student, course, key="second")
    assert problem(answer) == (409, "CourseInOpenOrder", [])
    assert order["id"] in answer.json()["detail"]
    assert (await shop.place(student, course, key="first")).json() == order
    assert (await shop.cancel(student, order["id"])).status_code == 200
    assert (await shop.place(student, course, key="second")).json()["gross"] == 1900


async def test_who_is_buying_keeps_the_seat_when_a_course_gets_a_capacity(shop: Counter) -> None:
    teacher, student, late = await shop.account(Role.TEACHER, Role.STUDENT), await shop.account(), await shop.account()
    author = Author(shop.client, teacher.headers)
    course, _, _ = await author.published(price={"amount": PRICE, "currency": "usd"}, capacity=None)
    order = await shop.order(student, course)
    changed = await shop.client.patch(f"/v1/courses/{course}", json={"capacity": 1}, headers=teacher.headers)
    assert changed.status_code == 200
    assert problem(await shop.place(late, course))[:2] == (409, "SeatUnavailable")
    assert (await shop.pay(order, student))["status"] == "paid"


async def test_many_clicks_at_once_make_one_order(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(capacity=1)
    answers = await asyncio.gather(*(shop.place(student, course) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len({answer.json()["checkout_url"] for answer in answers}) == 1
    assert await created_at_stripe(shop, answers[0].json()["id"]) == 1


async def test_a_course_in_another_open_order_is_refused(shop: Counter) -> None:
    student, course, other = await shop.account(), await shop.course(), await shop.course()
    order = await shop.order(student, course)
    answer = await shop.place(student, other, course)
    assert problem(answer) == (409, "CourseInOpenOrder", [])
    assert answer.json()["detail"] == f"Order {order['id']} for this course is still open."
    assert (await shop.cancel(student, order["id"])).status_code == 200
    assert (await shop.place(student, other, course)).status_code == 201


async def test_a_course_the_student_has_is_refused(shop: Counter) -> None:
    student, bought, free = await shop.account(), await shop.course(), await shop.course(None)
    await shop.pay(await shop.order(student, bought), student)
    enrolled = await shop.client.post(f"/v1/courses/{free}/enrollments", headers=student.headers)
    assert enrolled.status_code == 201
    for course in (bought, free):
        assert problem(await shop.place(student, course)) == (409, "AlreadyEnrolled", [])


async def test_a_teacher_may_buy_an_own_course(shop: Counter) -> None:
    teacher = await shop.account(Role.TEACHER, Role.STUDENT)
    own = await shop.course(owner=teacher.user_id)
    paid = await shop.pay(await shop.order(teacher, own), teacher)
    assert paid["status"] == "paid"


async def test_courses_that_are_not_on_offer_are_named(shop: Counter) -> None:
    student, offered = await shop.account(), await shop.course()
    draft, withdrawn = await shop.course(status="draft"), await shop.course(status="unpublished")
    answer = await shop.place(student, str(uuid4()), offered, draft, withdrawn)
    refused = [(f"items.{number}.course_id", "CourseNotForSale") for number in (0, 2, 3)]
    assert problem(answer) == (404, "CourseNotForSale", refused)
    assert (await shop.get("/me/orders", student))["items"] == []
    assert (await shop.place(student, offered)).status_code == 201  # nothing was claimed


async def test_an_order_has_one_currency(shop: Counter) -> None:
    student, free = await shop.account(), await shop.course(None)
    dollars, euros = await shop.course(), await shop.course(price_currency="eur")
    answer = await shop.place(student, dollars, free, euros)
    assert problem(answer) == (422, "Invalid", [("items", "mixed_currency")])
    assert answer.json()["errors"][0]["message"] == "The courses are priced in eur, usd."
    assert (await shop.order(student, free, euros))["currency"] == "eur"


async def test_a_total_nobody_can_charge_is_refused(shop: Counter) -> None:
    student = await shop.account()
    dear = [await shop.course(60_000_000) for _ in range(2)]
    assert problem(await shop.place(student, *dear)) == (422, "Invalid", [("items", "amount_not_chargeable")])


async def test_a_free_course_beside_a_priced_one_is_granted_with_it(shop: Counter) -> None:
    student, free, priced = await shop.account(), await shop.course(None), await shop.course()
    order = await shop.order(student, free, priced)
    assert [line["net"] for line in order["lines"]] == [0, PRICE]
    paid = await shop.pay(order, student)
    assert [line["granted_at"] is not None for line in paid["lines"]] == [True, True]
    assert {each["course_id"] for each in (await shop.get("/me/enrollments", student))["items"]} == {free, priced}


async def test_an_order_that_costs_nothing_is_paid_at_once_and_stripe_is_not_asked(shop: Counter) -> None:
    student, courses = await shop.account(), [await shop.course(None), await shop.course(None, capacity=1)]
    order = await shop.order(student, *courses)
    assert (order["status"], order["gross"], order["checkout_url"]) == ("paid", 0, None)
    assert order["paid_at"] == order["settled_at"]
    assert order["paid_at"] is not None
    assert await created_at_stripe(shop, order["id"]) == 0
    assert {each["course_id"] for each in (await shop.get("/me/enrollments", student))["items"]} == set(courses)


async def test_a_full_course_is_refused_by_name(shop: Counter) -> None:
    free, full = await shop.course(), await shop.course(capacity=1)
    first, student = await shop.account(), await shop.account()
    held = await shop.order(first, full)
    answer = await shop.place(student, free, full)
    assert problem(answer) == (409, "SeatUnavailable", [("items.1.course_id", "SeatUnavailable")])
    assert (await shop.cancel(first, held["id"])).status_code == 200
    assert (await shop.place(student, free, full)).status_code == 201


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, [("items", "missing")]),
        ({"items": []}, [("items", "too_short")]),
        ({"items": [{"course_id": str(UUID(int=number))} for number in range(21)]}, [("items", "too_long")]),
        ({"items": [{"course_id": str(UUID(int=1))}] * 2}, [("items", "duplicate_course")]),
        ({"items": [{"course_id": "tides"}]}, [("items.0.course_id", "uuid_parsing")]),
        ({"items": [{"course_id": str(UUID(int=1)), "price": 1}]}, [("items.0.price", "extra_forbidden")]),
        ({"items": [{"course_id": str(UUID(int=1))}], "gross": 1}, [("gross", "extra_forbidden")]),
    ],
)
async def test_bodies_that_are_no_order_are_refused(
    shop: Counter, body: dict[str, Any], errors: list[tuple[str, str]]
) -> None:
    student = await shop.account()
    headers = {**student.headers, "Idempotency-Key": "k"}
    answer = await shop.client.post("/v1/orders", json=body, headers=headers)
    assert problem(answer) == (422, "ValidationFailed", errors)


@pytest.mark.parametrize(
    ("key", "code"),
    [(None, "missing"), ("", "string_too_short"), ("x" * 256, "string_too_long"), ("a b", "string_pattern_mismatch")],
)
async def test_an_order_needs_a_usable_key(shop: Counter, key: str | None, code: str) -> None:
    student, course = await shop.account(), await shop.course()
    headers = student.headers if key is None else {**student.headers, "Idempotency-Key": key}
    answer = await shop.client.post("/v1/orders", json={"items": [{"course_id": course}]}, headers=headers)
    assert problem(answer) == (422, "ValidationFailed", [("Idempotency-Key", code)])


async def test_an_order_of_twenty_courses_is_placed(shop: Counter) -> None:
    courses = [await shop.course(100 + number) for number in range(20)]
    order = await shop.order(await shop.account(), *courses)
    assert (order["gross"], [line["course_id"] for line in order["lines"]]) == (2190, courses)


# While Temporal does not answer


async def test_without_temporal_the_order_is_kept_and_finishes_later(shop: Counter, house: Settings) -> None:
    student, course, key = await shop.account(), await shop.course(), "patience"
    async with serving(without_temporal(house)) as (_, elsewhere):
        answer = await shop.place(student, course, key=key, client=elsewhere)
        again = await shop.place(student, course, key=key, client=elsewhere)
    order = answer.json()
    assert (answer.status_code, order["status"], order["checkout_url"]) == (202, "pending", None)
    assert answer.headers["Location"] == f"/v1/orders/{order['id']}"
    assert (again.status_code, again.json()) == (202, order)

    event = OrderPlaced(order_id=UUID(order["id"]), student_id=student.user_id)
    await starter.handle(shop.container.gateway, Envelope(new_id(), event.subject, clock.now(), event))
    open_order = await shop.arrives(student, order["id"], "paying")
    assert (await shop.pay(open_order, student))["status"] == "paid"
    assert await created_at_stripe(shop, order["id"]) == 1


async def test_without_temporal_the_same_request_goes_on_once_it_answers(shop: Counter, house: Settings) -> None:
    student, course, key = await shop.account(), await shop.course(), "again"
    async with serving(without_temporal(house)) as (_, elsewhere):
        kept = await shop.place(student, course, key=key, client=elsewhere)
    answer = await shop.place(student, course, key=key)
    assert (kept.status_code, answer.status_code) == (202, 201)
    assert answer.json()["id"] == kept.json()["id"]
    assert answer.json()["checkout_url"].startswith(shop.settings.stripe.api_base)


async def test_without_temporal_a_cancellation_must_be_asked_for_again(shop: Counter, house: Settings) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    async with serving(without_temporal(house)) as (_, elsewhere):
        answer = await elsewhere.post(f"/v1/orders/{order['id']}/cancel", headers=student.headers)
    assert problem(answer) == (503, "ServiceUnavailable", [])
    assert answer.headers["Retry-After"] == "5"
    assert await shop.get(f"/orders/{order['id']}", student) == order
    assert (await shop.cancel(student, order["id"])).json()["status"] == "canceled"


# Ending


async def test_a_canceled_order_gives_its_seat_back(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(capacity=1)
    order = await shop.order(student, course)
    answer = await shop.cancel(student, order["id"])
    canceled = answer.json()
    assert answer.status_code == 200
    assert canceled == order | {
        "status": "canceled",
        "closed_reason": "canceled",
        "checkout_url": None,
        "closed_at": canceled["closed_at"],
    }
    assert (await shop.cancel(student, order["id"])).json() == canceled
    assert await shop.sandbox.pay(order["checkout_url"]) == 400  # the page is closed at Stripe
    again = await shop.order(student, course)
    assert again["id"] != order["id"]


async def test_a_paid_order_cannot_be_canceled(shop: Counter) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    paid = await shop.pay(order, student)
    answer = await shop.cancel(student, order["id"])
    assert problem(answer) == (409, "OrderClosed", [])
    assert answer.json()["detail"] == "The order is paid."
    assert await shop.get(f"/orders/{order['id']}", student) == paid


async def test_an_order_nobody_pays_expires(shop: Counter) -> None:
    student, course = await shop.account(), await shop.course(capacity=1)
    order = await shop.order(student, course)
    session = order["checkout_url"].rsplit("/", 1)[-1].partition("#")[0]
    assert (await shop.sandbox.http.post(f"/_sandbox/checkout/{session}/expire")).json()["status"] == "expired"
    await shop.deliver()
    expired = await shop.arrives(student, order["id"], "expired")
    assert (expired["closed_reason"], expired["checkout_url"], expired["paid_at"]) == ("expired", None, None)
    assert problem(await shop.cancel(student, order["id"])) == (409, "OrderClosed", [])
    assert (await shop.place(await shop.account(), course)).status_code == 201


# Reading


async def test_other_peoples_orders_are_not_found(shop: Counter) -> None:
    student, stranger = await shop.account(), await shop.account()
    order = await shop.order(student, await shop.course())
    for who, order_id in ((stranger, order["id"]), (student, str(uuid4()))):
        for method, path in (("GET", ""), ("GET", "/timeline"), ("POST", "/cancel")):
            answer = await shop.client.request(method, f"/v1/orders/{order_id}{path}", headers=who.headers)
            assert problem(answer) == (404, "OrderNotFound", [])
    assert (await shop.get("/me/orders", stranger))["items"] == []
    assert await shop.get(f"/orders/{order['id']}", await shop.account(Role.ADMIN)) == order


async def timeline(shop: Counter, order_id: str, who: Any) -> list[tuple[str, str, str, str | None]]:
    found = await shop.get(f"/orders/{order_id}/timeline", who)
    return [(each["actor"], each["kind"], each["message"], each["next_step"]) for each in found["items"]]


async def test_the_timeline_explains_a_purchase(shop: Counter) -> None:
    student, admin = await shop.account(), await shop.account(Role.ADMIN)
    order = await shop.order(student, await shop.course())
    placed = [
        (
            "student",
            "order.placed",
            "You placed the order for 49.00 USD. Your seats are held.",
            "open the payment page",
        ),
        ("system", "checkout.opened", "The payment page is open.", "your payment"),
    ]
    assert await timeline(shop, order["id"], student) == placed
    [_, opened_page] = (await shop.get(f"/orders/{order['id']}/timeline", student))["items"]
    assert (opened_page["next_at"], opened_page["details"]) == (order["expires_at"], {})
    await shop.pay(order, student)
    paid = [
        *placed,
        ("stripe", "payment.received", "Stripe captured 49.00 USD.", None),
        (
            "system",
            "order.paid",
            "Your payment was booked and your courses are open.",
            None,
        ),
    ]
    assert await timeline(shop, order["id"], student) == paid
    settled = ("stripe", "order.settled", "Stripe settled the payment: 47.28 USD after a fee of 1.72 USD.", None)
    assert await timeline(shop, order["id"], admin) == [*paid, settled]


async def test_the_timeline_explains_an_end_without_money(shop: Counter) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    await shop.cancel(student, order["id"])
    assert [message for _, _, message, _ in await timeline(shop, order["id"], student)] == [
        "You placed the order for 49.00 USD. Your seats are held.",
        "The payment page is open.",
        "You canceled the order and its seats were given back.",
    ]


async def test_my_orders_are_paged_newest_first(shop: Counter) -> None:
    student = await shop.account()
    placed = [await shop.order(student, await shop.course()) for _ in range(5)]
    async with shop.db.transaction() as session:  # several in one moment: the id decides
        await session.execute(
            text("update orders set created_at = date_trunc('second', created_at) where student_id = :id"),
            {"id": student.user_id},
        )
    newest = [order["id"] for order in reversed(placed)]
    shown, cursor = [], None
    for size in (2, 2, 1):
        page = await shop.get("/me/orders", student, limit=2, **({"cursor": cursor} if cursor else {}))
        assert len(page["items"]) == size
        shown += [order["id"] for order in page["items"]]
        cursor = page["next_cursor"]
    assert (cursor, shown) == (None, newest)
    assert [order["id"] for order in (await shop.get("/me/orders", student))["items"]] == newest
    foreign = await shop.client.get("/v1/me/orders", params={"cursor": "WzFd"}, headers=student.headers)
    assert problem(foreign) == (422, "InvalidCursor", [("cursor", "invalid_cursor")])
