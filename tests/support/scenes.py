"""Rows as registration, authoring and checkout leave them, without the ceremony."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from core import clock
from core.ids import new_id
from models.course import Course
from models.enrollment import Enrollment
from models.identity import User
from models.order import Order, OrderLine
from models.payment import Payment, Refund


async def add_user(session: AsyncSession, name: str = "Ada Lovelace") -> User:
    """A verified user."""
    user_id = new_id()
    user = User(
        id=user_id,
        email=f"user-{user_id.hex}@example.com",
        name=name,
        password_hash="unusable",
        email_verified_at=clock.now(),
    )
    session.add(user)
    await session.flush()
    return user


async def add_course(session: AsyncSession, owner_id: UUID, title: str, price: int | None = 4900) -> Course:
    """A published course; `price` is US cents."""
    course_id = new_id()
    course = Course(
        id=course_id,
        owner_id=owner_id,
        title=title,
        slug=course_id.hex,
        category="cooking",
        status="published",
        published_at=clock.now(),
        price_amount=price,
        price_currency="usd" if price else None,
    )
    session.add(course)
    await session.flush()
    return course


async def add_order(session: AsyncSession, student_id: UUID, *courses: Course, granted: int, status: str) -> Order:
    """An order for the courses, of which the first `granted` were fulfilled."""
    now, total = clock.now(), sum(course.price_amount or 0 for course in courses)
    order = Order(
        id=new_id(),
        student_id=student_id,
        status=status,
        currency="usd",
        list_total=total,
        gross=total,
        basket=",".join(sorted(str(course.id) for course in courses)),
        idempotency_key=str(new_id()),
        expires_at=now + timedelta(minutes=30),
        paid_at=now if status == "paid" else None,
        closed_reason=status if status in ("expired", "canceled") else None,
    )
    session.add(order)
    await session.flush()
    session.add_all(
        OrderLine(
            id=new_id(),
            order_id=order.id,
            position=position,
            course_id=course.id,
            creator_id=course.owner_id,
            title=course.title,
            list_amount=course.price_amount or 0,
            net=course.price_amount or 0,
            platform_bps=3000,
            granted_at=now if position < granted else None,
        )
        for position, course in enumerate(courses)
    )
    await session.flush()
    return order


async def add_stray_payment(session: AsyncSession, order: Order, amount: int, reason: str) -> tuple[Payment, Refund]:
    """Captured money that buys nothing, and its way back."""
    payment = Payment(
        id=new_id(),
        order_id=order.id,
        stripe_session=f"cs_test_{new_id().hex}",
        stripe_payment_intent=f"pi_{new_id().hex}",
        stripe_charge=f"ch_{new_id().hex}",
        amount=amount,
        currency="usd",
        livemode=False,
        disposition="unapplied",
        unapplied_amount=amount,
        unapplied_reason=reason,
    )
    session.add(payment)
    await session.flush()
    refund = Refund(
        id=new_id(),
        order_id=order.id,
        payment_id=payment.id,
        amount=amount,
        currency="usd",
        source="duplicate",
        reason=reason,
        status="succeeded",
    )
    session.add(refund)
    await session.flush()
    return payment, refund


async def add_enrollment(session: AsyncSession, student_id: UUID, course: Course, reason: str | None) -> Enrollment:
    """An enrollment that ended for `reason`, or is active."""
    enrollment = Enrollment(
        id=new_id(),
        student_id=student_id,
        course_id=course.id,
        course_version=1,
        status="revoked" if reason else "active",
        ended_at=clock.now() if reason else None,
        ended_reason=reason,
    )
    session.add(enrollment)
    await session.flush()
    return enrollment
