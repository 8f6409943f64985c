"""Booking on PostgreSQL, without Temporal and Stripe: what each charge of an order buys, posts and gives back."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.orders import OrderActivities
from core.ids import new_id
from core.settings import Settings
from domain.contracts.processes import ApplyPayments, PaymentsSeen
from domain.enrollments import EnrollmentStatus
from domain.ledger import InvalidPosting
from domain.orders import CourseInOpenOrder, OrderNotFound, SeatUnavailable
from models.order import Order
from services import enrollments
from services.ledger_checks import find_breaks
from tests.services.books import Books
from tests.services.till import NOW, Till, charged, unsettled

LATER = NOW + timedelta(days=2)


@pytest.fixture(scope="module")
async def till(shared_books: Books) -> AsyncIterator[Till]:
    async with shared_books.connected() as db:
        yield Till(db)


@pytest.fixture(autouse=True)
async def _sound(till: Till) -> AsyncIterator[None]:
    """After every test the books hold each invariant, and no seat is held for an order that has ended."""
    yield
    async with till.db.read() as session:
        assert await find_breaks(session) == []
    stray = (
        "select o.id from seat_holds h join orders o on o.id = h.order_id where o.status not in ('pending', 'paying')"
    )
    assert await till.rows(stray) == []


async def test_a_payment_buys_every_line(till: Till) -> None:
    student, first, second, free = (
        await till.student(), await till.course(4900), await till.course(2100, capacity=1), await till.course(None),
    )  # fmt: skip
    order = await till.place(student, first, second, free)
    assert (order.gross, order.currency, await till.held()) == (7000, "usd", 1)
    state = await till.pay(order)
    assert (state.status, state.settled) == ("paid", True)
    assert await till.order(order) == ("paid", None, True)
    assert await till.payments(order) == [("applied", 0, None, True)]
    assert await till.books(order) == {
        "stripe_balance usd": 6828,
        "processor_fees usd": 172,
        "creator_pending usd": -4900,
        "platform_fees usd": -2100,
    }
    assert await till.access(student) == {first, second, free}
    assert await till.claims(student) == {first: "owned", second: "owned", free: "owned"}
    assert await till.held() == 0
    assert await till.events(order) == ["order.placed.v1", "order.paid.v1", "order.settled.v1"]


async def test_captured_money_opens_the_course_before_it_is_settled(till: Till) -> None:
    student, course = await till.student(), await till.course()
    order = await till.place(student, course)
    seen = charged(order)
    state = await till.pay(order, unsettled(seen))
    assert (state.status, state.settled) == ("paid", False)
    assert await till.access(student) == {course}
    assert await till.books(order) == {
        "stripe_receivable usd": 4900, "creator_pending usd": -3430, "platform_fees usd": -1470,
    }  # fmt: skip
    state = await till.pay(order, seen)
    assert (state.status, state.settled) == ("paid", True)
    assert (await till.books(order))["stripe_balance usd"] == 4728
    [(release_at,)] = await till.rows(
        "select distinct release_at from earnings e join order_lines l on l.id = e.order_line_id"
        " where l.order_id = :id and recipient_kind = 'creator'",
        id=order.id,
    )
    assert release_at == NOW + timedelta(days=40)  # Stripe pays out later than the hold of 30 days ends


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"amount": 4899}, "amount_mismatch"),
        ({"amount": 9800}, "amount_mismatch"),
        ({"currency": "eur"}, "currency_mismatch"),
        ({"livemode": True}, "livemode_mismatch"),
    ],
)
async def test_wrong_money_buys_nothing_and_is_owed_back(till: Till, wrong: dict[str, Any], reason: str) -> None:
    student, course = await till.student(), await till.course(capacity=1)
    order = await till.place(student, course)
    state = await till.pay(order, charged(order, **wrong), close="expired")
    amount, currency = wrong.get("amount", 4900), wrong.get("currency", "usd")
    assert (state.status, state.settled) == ("expired", True)
    assert await till.order(order) == ("expired", reason, False)
    assert (await till.told("order", order.id))[1:] == [
        ("stripe", "payment.received"), ("stripe", "payment.unapplied"), ("system", "order.refused"),
    ]  # fmt: skip
    assert await till.payments(order) == [("unapplied", amount, reason, True)]
    assert await till.books(order) == {
        f"stripe_balance {currency}": amount - 172,
        f"processor_fees {currency}": 172,
        f"refunds_payable {currency}": -amount,
    }
    assert await till.rows(
        "select amount, currency, reason, status from refunds where order_id = :id", id=order.id
    ) == [(amount, currency, reason, "reserved")]
    assert (await till.access(student), await till.claims(student), await till.held()) == (set(), {}, 0)
    assert await till.events(order) == ["order.placed.v1", "payment.unapplied.v1", "order.expired.v1"]


async def test_a_second_payment_is_owed_back(till: Till) -> None:
    student, course = await till.student(), await till.course()
    order = await till.place(student, course)
    await till.pay(order)
    state = await till.pay(order, charged(order))
    assert (state.status, state.settled) == ("paid", True)
    assert await till.payments(order) == [("applied", 0, None, True), ("unapplied", 4900, "duplicate", True)]
    assert await till.books(order) == {
        "stripe_balance usd": 9456,
        "processor_fees usd": 344,
        "creator_pending usd": -3430,
        "platform_fees usd": -1470,
        "refunds_payable usd": -4900,
    }
    assert await till.access(student) == {course}
    assert await till.events(order) == [
        "order.placed.v1", "order.paid.v1", "order.settled.v1", "payment.unapplied.v1",
    ]  # fmt: skip


async def test_two_payments_that_are_seen_together_buy_once(till: Till) -> None:
    order = await till.place(await till.student(), await till.course())
    await till.pay(order, charged(order), charged(order))
    assert await till.payments(order) == [("applied", 0, None, True), ("unapplied", 4900, "duplicate", True)]


async def test_a_line_that_is_owned_meanwhile_is_given_back_and_the_rest_granted(till: Till) -> None:
    """The order expires, the student gets one of its courses otherwise, and then its late money arrives."""
    student, owned, missing = await till.student(), await till.course(4900), await till.course(2100)
    order = await till.place(student, owned, missing)
    assert (await till.book(order, close="expired")).status == "expired"
    await till.pay(await till.place(student, owned))

    state = await till.pay(order)
    assert (state.status, state.settled) == ("paid", True)
    assert await till.order(order) == ("paid", None, True)
    assert await till.payments(order) == [("applied", 4900, "already_owned", True)]
    assert await till.books(order) == {
        "stripe_balance usd": 6828,
        "processor_fees usd": 172,
        "creator_pending usd": -1470,
        "platform_fees usd": -630,
        "refunds_payable usd": -4900,
    }
    assert await till.access(student) == {owned, missing}
    assert await till.rows(
        "select course_id from order_lines where order_id = :id and granted_at is not null", id=order.id
    ) == [(missing,)]
    grants = (
        "select count(*) from enrollment_grants g join enrollments e on e.id = g.enrollment_id where e.student_id = :s"
    )
    assert await till.rows(grants, s=student) == [(2,)]


async def test_late_money_is_accepted_while_the_course_is_open_and_has_a_seat(till: Till) -> None:
    student, course = await till.student(), await till.course(capacity=1)
    order = await till.place(student, course)
    await till.book(order, close="expired")
    assert await till.held() == 0
    state = await till.pay(order)
    assert state.status == "paid"
    assert await till.order(order) == ("paid", None, True)
    assert await till.claims(student) == {course: "owned"}
    assert await till.events(order) == ["order.placed.v1", "order.expired.v1", "order.paid.v1", "order.settled.v1"]


async def test_late_money_for_a_course_that_is_full_or_gone_is_owed_back(till: Till) -> None:
    late, other = await till.student(), await till.student()
    full, gone = await till.course(capacity=1), await till.course()
    for course, reason in ((full, "course_full"), (gone, "course_closed")):
        order = await till.place(late, course)
        await till.book(order, close="canceled")
        if course == full:
            await till.pay(await till.place(other, full))
        else:
            await till.unpublish(gone)
        state = await till.pay(order)
        assert (state.status, state.settled) == ("canceled", True)
        assert await till.payments(order) == [("unapplied", 4900, reason, True)]
    assert await till.access(late) == set()
    assert await till.claims(late) == {}


async def test_money_in_time_buys_a_course_that_was_unpublished_meanwhile(till: Till) -> None:
    student, course = await till.student(), await till.course()
    order = await till.place(student, course)
    await till.unpublish(course)
    assert (await till.pay(order)).status == "paid"
    assert await till.access(student) == {course}


async def test_money_in_time_buys_the_seat_that_was_held_though_the_course_shrank(till: Till) -> None:
    course = await till.course(capacity=2)
    seated, waiting, late = await till.student(), await till.student(), await till.student()
    await till.pay(await till.place(seated, course))
    order = await till.place(waiting, course)
    await till.shrink(course, 1)
    assert (await till.pay(order)).status == "paid"
    assert await till.access(waiting) == {course}
    await till.shrink(course, 3)
    order = await till.place(late, course)
    await till.shrink(course, 1)
    await till.lapse(order)  # nothing is promised any more
    assert (await till.pay(order, charged(order), close="expired")).status == "expired"
    assert await till.payments(order) == [("unapplied", 4900, "course_full", True)]
    assert await till.access(late) == set()


async def test_a_new_payment_page_keeps_the_seat_or_ends_the_order(till: Till) -> None:
    course, first = await till.course(capacity=1), await till.student()
    order = await till.place(first, course)
    renewed = await till.renew_page(order)
    assert (renewed.status, renewed.checkout_n, await till.held()) == ("pending", 2, 1)

    await till.lapse(order)
    taken = await till.place(await till.student(), course)
    ended = await till.renew_page(order)
    assert (ended.status, ended.checkout_n, ended.settled) == ("expired", 2, True)
    assert await till.order(order) == ("expired", "course_full", False)
    assert (await till.claims(first), await till.held()) == ({}, 1)
    assert await till.events(order) == ["order.placed.v1", "order.expired.v1"]
    assert (await till.renew_page(order)).status == "expired"
    assert (await till.pay(taken)).status == "paid"

    other = await till.course(capacity=1)
    lapsed = await till.place(first, other)
    await till.lapse(lapsed)
    assert ((await till.renew_page(lapsed, LATER)).checkout_n, await till.held()) == (2, 1)  # nobody took the seat
    with pytest.raises(SeatUnavailable):
        await till.place(await till.student(), other)
    assert (await till.pay(lapsed)).status == "paid"


async def test_a_course_waiting_in_another_open_order_is_not_bought_twice(till: Till) -> None:
    student, course = await till.student(), await till.course()
    first = await till.place(student, course)
    with pytest.raises(CourseInOpenOrder, match=str(first.id)):
        await till.place(student, course, await till.course())
    await till.book(first, close="expired")
    second = await till.place(student, course)
    assert (await till.pay(first)).status == "expired"
    assert await till.payments(first) == [("unapplied", 4900, "in_open_order", True)]
    assert (await till.pay(second)).status == "paid"
    assert await till.access(student) == {course}
    late = await till.place(student, other := await till.course())
    await till.book(late, close="expired")
    await till.pay(await till.place(student, other))
    await till.pay(late)
    assert await till.payments(late) == [("unapplied", 4900, "already_owned", True)]
    assert await till.access(student) == {course, other}


async def test_an_order_that_costs_nothing_is_granted_without_a_posting(till: Till) -> None:
    student, course = await till.student(), await till.course(None, capacity=1)
    order = await till.place(student, course)
    state = await till.book(order)
    assert (state.status, state.settled) == ("paid", True)
    assert await till.order(order) == ("paid", None, True)
    assert (await till.books(order), await till.access(student), await till.held()) == ({}, {course}, 0)
    assert await till.events(order) == ["order.placed.v1", "order.paid.v1"]
    assert await till.told("order", order.id) == [("student", "order.placed"), ("system", "order.given")]


async def test_a_free_order_whose_seat_is_gone_ends_because_the_course_is_full(till: Till) -> None:
    course = await till.course(None, capacity=1)
    order = await till.place(await till.student(), course)
    await till.lapse(order)
    assert (await till.book(await till.place(await till.student(), course))).status == "paid"
    assert (await till.book(order, close="expired")).status == "expired"
    assert await till.order(order) == ("expired", "course_full", False)
    assert (await till.told("order", order.id))[1:] == [("system", "order.refused")]


async def test_a_charge_that_was_converted_is_booked_in_both_currencies(till: Till) -> None:
    order = await till.place(await till.student(), await till.course(4900, currency="eur"))
    state = await till.pay(order, charged(order, conversion=("usd", 5300)))
    assert (state.status, state.settled) == ("paid", True)
    assert await till.books(order) == {
        "fx_clearing eur": 4900,
        "creator_pending eur": -3430,
        "platform_fees eur": -1470,
        "fx_clearing usd": -5300,
        "stripe_balance usd": 5128,
        "processor_fees usd": 172,
    }
    [settled] = await till.rows(
        "select details from timeline_entries where subject_id = :id and kind = 'order.settled'", id=order.id
    )
    assert settled == ({"net": 5128, "fee": 172, "currency": "usd"},)


async def test_a_charge_may_settle_in_any_currency_of_stripe(till: Till) -> None:
    order = await till.place(await till.student(), await till.course())
    assert (await till.pay(order, charged(order, conversion=("chf", 4400)))).settled is True
    assert (await till.books(order))["stripe_balance chf"] == 4228


async def test_what_cannot_be_settled_does_not_take_the_sale_back(till: Till, settings: Settings) -> None:
    student, course = await till.student(), await till.course()
    order = await till.place(student, course)
    await till.see(order, charged(order, conversion=("xxx", 4400)))
    apply = OrderActivities(till.db, settings).apply_payments
    for _ in range(2):
        with pytest.raises(InvalidPosting, match="unknown currency 'xxx'"):
            await ActivityEnvironment().run(apply, ApplyPayments(order_id=order.id, now=NOW))
    assert await till.order(order) == ("paid", None, False)
    assert await till.access(student) == {course}


@pytest.mark.parametrize("close", ["expired", "canceled", "checkout_refused"])
async def test_an_unpaid_order_that_ends_gives_back_what_it_held(till: Till, close: str) -> None:
    student, course = await till.student(), await till.course(capacity=1)
    order = await till.place(student, course)
    assert await till.held() == 1
    state = await till.book(order, close=close)
    status = "canceled" if close == "canceled" else "expired"
    assert (state.status, state.settled) == (status, True)
    assert await till.order(order) == (status, close, False)
    assert (await till.held(), await till.claims(student), await till.books(order)) == (0, {}, {})
    assert await till.events(order) == ["order.placed.v1", f"order.{status}.v1"]
    assert (await till.told("order", order.id))[1:] == [{
        "expired": ("system", "order.expired"),
        "canceled": ("student", "order.canceled"),
        "checkout_refused": ("system", "order.refused"),
    }[close]]  # fmt: skip
    assert (await till.pay(await till.place(await till.student(), course))).status == "paid"


async def test_money_is_faster_than_the_end(till: Till) -> None:
    student, course = await till.student(), await till.course()
    order = await till.place(student, course)
    assert (await till.pay(order, close="canceled")).status == "paid"
    assert await till.access(student) == {course}


async def test_running_any_step_again_changes_nothing(till: Till) -> None:
    """Replayed commands leave every row as it is."""
    student, taken = await till.student(), await till.course(4900)
    await till.pay(await till.place(student, taken))
    paid = await till.place(student, await till.course(2100, capacity=2))
    late = await till.place(student, await till.course(1900))
    await till.book(late, close="expired")
    seen = {paid: [charged(paid), charged(paid)], late: [charged(late, amount=1)]}
    for order, states in seen.items():
        await till.pay(order, *states, close="expired")
    before = await till.facts()
    for order, states in seen.items():
        for close in (None, "expired", "canceled"):
            for said in (states, [*reversed(states)], [unsettled(state) for state in states]):
                await till.see(order, *said)
                await till.book(order, close=close, now=LATER)
    assert await till.facts() == before


async def test_any_order_of_the_same_facts_ends_in_the_same_books(till: Till) -> None:
    """Two charges of one order, each first without and then with its balance transaction, booked after every fact."""
    course = await till.course()
    for arrival in itertools.permutations(range(4)):
        student = await till.student()
        order = await till.place(student, course)
        first, second = charged(order), charged(order)
        facts = [unsettled(first), first, unsettled(second), second]
        for number in arrival:
            await till.pay(order, facts[number])
        assert await till.order(order) == ("paid", None, True)
        assert await till.payments(order) == [("applied", 0, None, True), ("unapplied", 4900, "duplicate", True)]
        assert await till.books(order) == {
            "stripe_balance usd": 9456,
            "processor_fees usd": 344,
            "creator_pending usd": -3430,
            "platform_fees usd": -1470,
            "refunds_payable usd": -4900,
        }
        assert await till.access(student) == {course}
        assert sorted(await till.events(order)) == [
            "order.paid.v1", "order.placed.v1", "order.settled.v1", "payment.unapplied.v1",
        ]  # fmt: skip


async def test_what_stripe_says_before_there_is_money_books_nothing(till: Till) -> None:
    order = await till.place(await till.student(), await till.course())
    paid = charged(order)
    assert paid.payment_intent is not None
    declined = replace(paid.payment_intent, status="requires_payment_method")
    waiting = [
        (replace(paid, status="open", payment_intent=None), True),
        (replace(paid, status="open", payment_intent=declined), True),
        (replace(paid, payment_intent=replace(declined, status="processing")), True),  # a method that takes days
        (replace(paid, payment_intent=replace(declined, status="requires_action")), True),
        (replace(paid, status="expired", payment_intent=None), False),
        (replace(paid, status="expired", payment_intent=replace(declined, status="canceled")), False),
    ]
    for seen, open_ in waiting:
        assert await till.see(order, seen) == PaymentsSeen(open=open_)
        assert (await till.book(order)).status == "pending"
    assert await till.see(order) == PaymentsSeen(open=False)
    assert await till.see(order, waiting[0][0], paid) == PaymentsSeen(open=True)
    assert await till.see(order, paid) == PaymentsSeen(open=False)
    assert await till.payments(order) == [(None, 0, None, False)]
    assert (await till.book(order)).status == "paid"


@pytest.mark.parametrize("status", ["requires_payment_method", "canceled"])
async def test_a_payment_that_fails_days_later_ends_the_order(till: Till, status: str) -> None:
    student, course = await till.student(), await till.course(capacity=1)
    order = await till.place(student, course)
    paid = charged(order)
    assert paid.payment_intent is not None
    await till.open_page(order, paid.id)
    for _ in range(2):
        failed = await till.see(order, replace(paid, payment_intent=replace(paid.payment_intent, status=status)))
        assert failed == PaymentsSeen(open=False)
    assert (await till.book(order, close="expired")).status == "expired"
    assert await till.order(order) == ("expired", "payment_failed", False)
    assert (await till.claims(student), await till.held(), await till.payments(order)) == ({}, 0, [])
    assert (await till.told("order", order.id))[2:] == [("stripe", "payment.failed"), ("system", "order.refused")]
    assert await till.events(order) == ["order.placed.v1", "order.expired.v1"]


async def test_a_withdrawn_course_can_be_bought_again(till: Till) -> None:
    student, course = await till.student(), await till.course()
    await till.pay(await till.place(student, course))
    [(enrollment,)] = await till.rows("select id from enrollments where student_id = :id", id=student)
    async with till.db.transaction() as session:
        ended = await enrollments.end(session, enrollment, EnrollmentStatus.WITHDRAWN, NOW)
    assert ended.status == "withdrawn"
    assert await till.told("enrollment", enrollment) == [
        ("system", "enrollment.granted"), ("student", "enrollment.withdrawn"),
    ]  # fmt: skip
    assert await till.claims(student) == {}
    again = await till.place(student, course)
    assert (await till.pay(again)).status == "paid"
    assert await till.access(student) == {course}


async def test_an_unknown_order_is_refused(till: Till) -> None:
    ghost = Order(id=new_id())
    with pytest.raises(OrderNotFound):
        await till.book(ghost)
