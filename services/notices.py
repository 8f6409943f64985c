"""What an event is worth telling to whom, in which words."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.contracts import events
from domain.enrollments import EnrollmentStatus
from domain.money import Money
from domain.orders import OrderStatus
from domain.timeline import reason as phrase
from models.course import Course
from models.enrollment import Enrollment
from models.identity import EmailToken
from models.order import Order, OrderLine
from models.payment import Payment, Refund
from services import orders


@dataclass(frozen=True, slots=True)
class Notice:
    """One message to one person. `rows` is a small table of labels and values; `data` is for programs."""

    user_id: UUID
    kind: str
    title: str
    paragraphs: tuple[str, ...]
    rows: tuple[tuple[str, str], ...] = ()
    in_app: bool = True
    data: dict[str, Any] = field(default_factory=dict)


Composer = Callable[[AsyncSession, Any], Awaitable[Notice | None]]

VERIFICATION = "user.verification_requested"

_COMPOSERS: dict[type[events.Event], Composer] = {}


def _composes(event: type[events.Event]) -> Callable[[Composer], Composer]:
    def register(composer: Composer) -> Composer:
        _COMPOSERS[event] = composer
        return composer

    return register


async def compose(session: AsyncSession, event: events.Event) -> Notice | None:
    """The notice for `event`, or None when nobody needs to be told (any more)."""
    composer = _COMPOSERS.get(type(event))
    return await composer(session, event) if composer else None


@_composes(events.VerificationRequested)
async def _verification(session: AsyncSession, event: events.VerificationRequested) -> Notice | None:
    token = await session.get(EmailToken, event.token_id)
    if token is None or token.used_at is not None:
        return None
    return Notice(
        event.user_id,
        VERIFICATION,
        "Confirm your e-mail address",
        (
            "Somebody, probably you, opened a Lyceum account with this address. Confirm it and you can sign in.",
            f"The link works until {token.expires_at:%d %B %Y, %H:%M} UTC. If it was not you, ignore this mail.",
        ),
        in_app=False,
        data={"token_id": str(token.id)},
    )


@_composes(events.UserRegistered)
async def _registered(session: AsyncSession, event: events.UserRegistered) -> Notice | None:
    if not event.existing:
        return None
    return Notice(
        event.user_id,
        "user.already_registered",
        "You already have an account",
        (
            "Somebody, probably you, tried to open a Lyceum account with this address. You have one already: sign in "
            "with your password.",
            "If it was not you, there is nothing to do: nothing has changed.",
        ),
    )


@_composes(events.TeacherGranted)
async def _teacher(session: AsyncSession, event: events.TeacherGranted) -> Notice:
    return Notice(
        event.user_id,
        "teacher.granted",
        "You can teach now",
        ("You are a teacher on Lyceum. Create your first course, add modules and lessons, and publish it.",),
    )


@_composes(events.TeacherRejected)
async def _not_teacher(session: AsyncSession, event: events.TeacherRejected) -> Notice:
    return Notice(
        event.user_id,
        "teacher.rejected",
        "Your request to teach",
        ("We looked at your request to teach and cannot grant it now. You are welcome to ask again.",),
    )


@_composes(events.CoursePublished)
async def _published(session: AsyncSession, event: events.CoursePublished) -> Notice | None:
    course = await session.get(Course, event.course_id)
    if course is None:
        return None
    return Notice(
        course.owner_id,
        "course.published",
        f"“{course.title}” is published",
        ("Your course is open. Students find it in the search within seconds.",),
        data={"course_id": str(course.id)},
    )


async def _order(session: AsyncSession, order_id: UUID) -> tuple[Order, Sequence[OrderLine]]:
    return await session.get_one(Order, order_id), await orders.lines_of(session, order_id)


def _titles(lines: Sequence[OrderLine]) -> str:
    names = [f"“{line.title}”" for line in lines]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@_composes(events.OrderPaid)
async def _paid(session: AsyncSession, event: events.OrderPaid) -> Notice:
    order, lines = await _order(session, event.order_id)
    granted = [line for line in lines if line.granted_at is not None]
    if not order.gross:
        return Notice(
            order.student_id,
            "order.given",
            f"Welcome to {_titles(granted)}",
            (f"Your order cost nothing, and the way into {_titles(granted)} is open.",),
            data={"order_id": str(order.id)},
        )
    total = sum(line.net for line in granted)
    rows = [(line.title, str(Money(line.net, order.currency))) for line in granted]
    if order.tax_total and len(granted) == len(lines):
        total += order.tax_total
        rows.append(("Tax", str(Money(order.tax_total, order.currency))))
    rows.append(("Total", str(Money(total, order.currency))))
    rows.append(("Order", str(order.id)))
    if order.paid_at is not None:
        rows.append(("Paid", f"{order.paid_at:%d %B %Y, %H:%M} UTC"))
    return Notice(
        order.student_id,
        "order.paid",
        "Your receipt" if len(granted) > 1 else f"Your receipt for “{granted[0].title}”",
        (f"Thank you. Your payment arrived, and the way into {_titles(granted)} is open.",),
        rows=tuple(rows),
        data={"order_id": str(order.id), "amount": total, "currency": order.currency},
    )


async def _charged(session: AsyncSession, order: Order) -> str:
    """What an order that bought nothing cost."""
    paid = await session.scalar(select(exists().where(Payment.order_id == order.id)))
    return "What you paid goes back to you" if paid else "You have not been charged"


@_composes(events.OrderExpired)
async def _expired(session: AsyncSession, event: events.OrderExpired) -> Notice | None:
    order, lines = await _order(session, event.order_id)
    if order.status == OrderStatus.PAID:
        return None  # money that came late was faster than this message
    why = (
        "it was not paid in time" if order.closed_reason in (None, OrderStatus.EXPIRED) else phrase(order.closed_reason)
    )
    return Notice(
        order.student_id,
        "order.expired",
        "Your order has ended",
        (
            f"Your order for {_titles(lines)} has ended: {why}. {await _charged(session, order)}, and the seats it "
            "held were given back.",
            "You can order again at any time.",
        ),
        data={"order_id": str(order.id)},
    )


@_composes(events.OrderCanceled)
async def _canceled(session: AsyncSession, event: events.OrderCanceled) -> Notice | None:
    order, lines = await _order(session, event.order_id)
    if order.status == OrderStatus.PAID:
        return None  # money that came late was faster than this message
    return Notice(
        order.student_id,
        "order.canceled",
        "Your order is canceled",
        (f"You canceled your order for {_titles(lines)}. {await _charged(session, order)}.",),
        data={"order_id": str(order.id)},
    )


@_composes(events.PaymentUnapplied)
async def _unapplied(session: AsyncSession, event: events.PaymentUnapplied) -> Notice:
    payment = await session.get_one(Payment, event.payment_id)
    amount = Money(payment.unapplied_amount, payment.currency)
    return Notice(
        event.student_id,
        "payment.unapplied",
        f"{amount} goes back to you",
        (
            f"We received {amount} for your order that we cannot use: {phrase(event.reason)}.",
            "It goes back to where it came from by itself; you need not do anything. We tell you when it is sent.",
        ),
        rows=(("Amount", str(amount)), ("Order", str(event.order_id))),
        data={"order_id": str(event.order_id), "amount": amount.amount, "currency": amount.currency},
    )


@_composes(events.PaymentReturned)
async def _returned(session: AsyncSession, event: events.PaymentReturned) -> Notice:
    refund = await session.get_one(Refund, event.refund_id)
    amount = Money(refund.amount, refund.currency)
    return Notice(
        event.student_id,
        "payment.returned",
        f"We gave {amount} back",
        (
            f"We gave {amount} back because {phrase(event.reason)}.",
            "Your bank shows it within five to ten working days.",
        ),
        rows=(("Amount", str(amount)), ("Order", str(event.order_id))),
        data={"order_id": str(event.order_id), "amount": amount.amount, "currency": amount.currency},
    )


async def _course_title(session: AsyncSession, course_id: UUID) -> str:
    return (await session.get_one(Course, course_id)).title


@_composes(events.EnrollmentGranted)
async def _enrolled(session: AsyncSession, event: events.EnrollmentGranted) -> Notice | None:
    if event.source == "order":
        return None  # the receipt says it
    title = await _course_title(session, event.course_id)
    return Notice(
        event.student_id,
        "enrollment.granted",
        f"Welcome to “{title}”",
        (f"You are enrolled in “{title}” and every lesson is open to you.",),
        data={"course_id": str(event.course_id), "enrollment_id": str(event.enrollment_id)},
    )


@_composes(events.EnrollmentRevoked)
async def _revoked(session: AsyncSession, event: events.EnrollmentRevoked) -> Notice:
    title = await _course_title(session, event.course_id)
    why = await session.scalar(select(Enrollment.ended_reason).where(Enrollment.id == event.enrollment_id))
    unsaid = why in (None, EnrollmentStatus.REVOKED, EnrollmentStatus.EXPIRED)
    because = "" if unsaid else f" because {phrase(str(why))}"
    return Notice(
        event.student_id,
        "enrollment.revoked",
        f"Your access to “{title}” ended",
        (f"Your access to “{title}” ended{because}. What you did there is kept.",),
        data={"course_id": str(event.course_id), "enrollment_id": str(event.enrollment_id)},
    )
