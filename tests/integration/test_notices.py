"""What each event is worth telling to whom."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core import clock
from core.db import Database
from core.ids import new_id
from core.messaging.topology import SUBSCRIPTIONS
from domain.contracts import events
from models.course import Course
from models.identity import EmailToken, User
from services.notices import _COMPOSERS, Notice, compose
from tests.support.scenes import add_course, add_enrollment, add_order, add_stray_payment, add_user


@pytest.fixture
async def session(db: Database) -> AsyncIterator[AsyncSession]:
    """A session whose work nobody keeps."""
    async with db.transaction() as session:
        yield session
        await session.rollback()


@pytest.fixture
async def student(session: AsyncSession) -> User:
    return await add_user(session)


@pytest.fixture
async def courses(session: AsyncSession) -> list[Course]:
    teacher = await add_user(session, "Grace Hopper")
    return [
        await add_course(session, teacher.id, title, price)
        for title, price in (("Fresh Bread", 4900), ("Slow Coffee", 1250), ("Cold Soup", 700))
    ]


async def _token(session: AsyncSession, user_id: UUID, *, used: bool) -> UUID:
    token_id, now = new_id(), clock.now()
    await session.execute(
        insert(EmailToken).values(
            id=token_id,
            user_id=user_id,
            purpose="verify-email",
            name="Ada",
            password_hash="h",
            expires_at=now + timedelta(days=2),
            used_at=now if used else None,
        )
    )
    return token_id


def _told(notice: Notice | None) -> tuple[UUID, str, str]:
    assert notice is not None
    return notice.user_id, notice.kind, notice.title


async def test_a_verification_is_asked_for_while_its_link_is_good(session: AsyncSession, student: User) -> None:
    token_id = await _token(session, student.id, used=False)
    notice = await compose(session, events.VerificationRequested(user_id=student.id, token_id=token_id))
    assert _told(notice) == (student.id, "user.verification_requested", "Confirm your e-mail address")
    assert notice is not None
    assert (notice.in_app, notice.data) == (False, {"token_id": str(token_id)})
    used = await _token(session, student.id, used=True)
    for gone in (used, new_id()):
        assert await compose(session, events.VerificationRequested(user_id=student.id, token_id=gone)) is None


async def test_only_a_second_registration_is_worth_a_notice(session: AsyncSession, student: User) -> None:
    assert await compose(session, events.UserRegistered(user_id=student.id)) is None
    notice = await compose(session, events.UserRegistered(user_id=student.id, existing=True))
    assert _told(notice) == (student.id, "user.already_registered", "You already have an account")


async def test_teachers_hear_of_the_decision_and_of_their_course(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    granted = await compose(session, events.TeacherGranted(user_id=student.id))
    assert _told(granted) == (student.id, "teacher.granted", "You can teach now")
    rejected = await compose(session, events.TeacherRejected(user_id=student.id))
    assert _told(rejected) == (student.id, "teacher.rejected", "Your request to teach")
    published = await compose(session, events.CoursePublished(course_id=courses[0].id))
    assert _told(published) == (courses[0].owner_id, "course.published", "“Fresh Bread” is published")


async def test_a_receipt_lists_what_was_granted_and_sums_it_up(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    order = await add_order(session, student.id, *courses, granted=2, status="paid")
    notice = await compose(session, events.OrderPaid(order_id=order.id, student_id=student.id))
    assert _told(notice) == (student.id, "order.paid", "Your receipt")
    assert notice is not None
    assert notice.rows[:4] == (
        ("Fresh Bread", "49.00 USD"),
        ("Slow Coffee", "12.50 USD"),
        ("Total", "61.50 USD"),
        ("Order", str(order.id)),
    )
    assert notice.data == {"order_id": str(order.id), "amount": 6150, "currency": "usd"}


async def test_a_receipt_for_one_course_names_it(session: AsyncSession, student: User, courses: list[Course]) -> None:
    order = await add_order(session, student.id, courses[0], granted=1, status="paid")
    notice = await compose(session, events.OrderPaid(order_id=order.id, student_id=student.id))
    assert _told(notice) == (student.id, "order.paid", "Your receipt for “Fresh Bread”")
    assert notice is not None
    assert notice.paragraphs == ("Thank you. Your payment arrived, and the way into “Fresh Bread” is open.",)


async def test_an_order_that_ended_says_that_nothing_was_charged(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    expired = await add_order(session, student.id, *courses, granted=0, status="expired")
    notice = await compose(session, events.OrderExpired(order_id=expired.id, student_id=student.id))
    assert _told(notice) == (student.id, "order.expired", "Your order has ended")
    assert notice is not None
    assert notice.paragraphs[0] == (
        "Your order for “Fresh Bread”, “Slow Coffee” and “Cold Soup” has ended: it was not paid in time. You have not "
        "been charged, and the seats it held were given back."
    )
    canceled = await add_order(session, student.id, courses[0], granted=0, status="canceled")
    notice = await compose(session, events.OrderCanceled(order_id=canceled.id, student_id=student.id))
    assert _told(notice) == (student.id, "order.canceled", "Your order is canceled")
    assert notice is not None
    assert notice.paragraphs == ("You canceled your order for “Fresh Bread”. You have not been charged.",)


async def test_an_order_that_ended_in_spite_of_a_payment_says_why_and_that_the_money_goes_back(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    expired = await add_order(session, student.id, courses[0], granted=0, status="expired")
    expired.closed_reason = "amount_mismatch"
    await add_stray_payment(session, expired, 4899, "amount_mismatch")
    notice = await compose(session, events.OrderExpired(order_id=expired.id, student_id=student.id))
    assert notice is not None
    assert notice.paragraphs[0] == (
        "Your order for “Fresh Bread” has ended: the amount is not the order's. What you paid goes back to you, and "
        "the seats it held were given back."
    )
    canceled = await add_order(session, student.id, courses[0], granted=0, status="canceled")
    await add_stray_payment(session, canceled, 4900, "course_full")
    notice = await compose(session, events.OrderCanceled(order_id=canceled.id, student_id=student.id))
    assert notice is not None
    assert notice.paragraphs == ("You canceled your order for “Fresh Bread”. What you paid goes back to you.",)


async def test_an_end_that_late_money_undid_is_not_told(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    order = await add_order(session, student.id, courses[0], granted=1, status="paid")
    for event in (events.OrderExpired, events.OrderCanceled):
        assert await compose(session, event(order_id=order.id, student_id=student.id)) is None


async def test_an_order_that_cost_nothing_speaks_of_no_payment(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    courses[0].price_amount = courses[0].price_currency = None
    order = await add_order(session, student.id, courses[0], granted=1, status="paid")
    notice = await compose(session, events.OrderPaid(order_id=order.id, student_id=student.id))
    assert _told(notice) == (student.id, "order.given", "Welcome to “Fresh Bread”")
    assert notice is not None
    assert (notice.paragraphs, notice.rows) == (
        ("Your order cost nothing, and the way into “Fresh Bread” is open.",), (),
    )  # fmt: skip


async def test_stray_money_is_explained_when_it_comes_and_when_it_goes(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    order = await add_order(session, student.id, courses[0], granted=0, status="expired")
    payment, refund = await add_stray_payment(session, order, 4900, "course_full")
    fields = {
        "payment_id": payment.id,
        "refund_id": refund.id,
        "order_id": order.id,
        "student_id": student.id,
        "reason": "course_full",
    }
    came = await compose(session, events.PaymentUnapplied.model_validate(fields))
    assert _told(came) == (student.id, "payment.unapplied", "49.00 USD goes back to you")
    assert came is not None
    assert came.paragraphs[0] == "We received 49.00 USD for your order that we cannot use: the course is full."
    went = await compose(session, events.PaymentReturned.model_validate(fields))
    assert _told(went) == (student.id, "payment.returned", "We gave 49.00 USD back")
    assert went is not None
    assert went.paragraphs[0] == "We gave 49.00 USD back because the course is full."


async def test_a_free_enrollment_is_welcomed_and_a_paid_one_has_its_receipt(
    session: AsyncSession, student: User, courses: list[Course]
) -> None:
    for source, told in (("free", True), ("admin", True), ("order", False)):
        event = events.EnrollmentGranted(
            enrollment_id=new_id(), course_id=courses[0].id, student_id=student.id, source=source
        )
        notice = await compose(session, event)
        assert (notice is not None) is told
        if notice:
            assert _told(notice) == (student.id, "enrollment.granted", "Welcome to “Fresh Bread”")


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("revoked", "Your access to “Fresh Bread” ended. What you did there is kept."),
        (
            "course_closed",
            "Your access to “Fresh Bread” ended because the course is no longer offered. What you did there is kept.",
        ),
    ],
)
async def test_losing_access_says_why(
    session: AsyncSession, student: User, courses: list[Course], reason: str, sentence: str
) -> None:
    enrollment = await add_enrollment(session, student.id, courses[0], reason)
    notice = await compose(
        session,
        events.EnrollmentRevoked(enrollment_id=enrollment.id, course_id=courses[0].id, student_id=student.id),
    )
    assert _told(notice) == (student.id, "enrollment.revoked", "Your access to “Fresh Bread” ended")
    assert notice is not None
    assert notice.paragraphs == (sentence,)


def test_every_event_the_consumer_hears_has_its_words() -> None:
    assert set(SUBSCRIPTIONS["notifications"].events) == set(_COMPOSERS)
