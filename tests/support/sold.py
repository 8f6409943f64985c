"""A paid order with all the rows that belong to it, written without the processes that write them."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import new_id
from domain import ledger as postings
from domain.ledger import Posting
from domain.pricing import split
from models.course import Course
from models.order import Order, OrderLine
from models.payment import Payment
from services import earnings, ledger

BPS = 3000


async def sell(
    session: AsyncSession, *, student_id: UUID, teacher_id: UUID, now: datetime, gross: int = 4249, stray: int = 1000
) -> Payment:
    """An order of one course for `gross` that was paid by a charge of `gross + stray`: booked, not settled."""
    course = Course(id=new_id(), owner_id=teacher_id, title="Tides", slug=f"tides-{uuid4().hex}")
    order = Order(
        id=new_id(),
        student_id=student_id,
        status="paid",
        currency="usd",
        list_total=gross,
        gross=gross,
        basket=str(course.id),
        idempotency_key=str(uuid4()),
        expires_at=now + timedelta(hours=1),
    )
    line = OrderLine(
        id=new_id(),
        order_id=order.id,
        position=0,
        course_id=course.id,
        creator_id=teacher_id,
        title=course.title,
        list_amount=gross,
        net=gross,
        platform_bps=BPS,
    )
    payment = Payment(
        id=new_id(),
        order_id=order.id,
        stripe_session=f"cs_{order.id.hex}",
        stripe_payment_intent=f"pi_{order.id.hex}",
        stripe_charge=f"ch_{order.id.hex}",
        amount=gross + stray,
        currency="usd",
        livemode=False,
        disposition="applied",
        unapplied_amount=stray,
        booked_at=now,
    )
    for row in (course, order, line, payment):
        session.add(row)
        await session.flush()
    shares = split(gross, platform_bps=BPS, creators={teacher_id: 1})
    await earnings.record_sale(session, line.id, shares, currency="usd", release_at=now + timedelta(days=30))
    sale = postings.sale(order_id=order.id, gross=gross, currency="usd", shares=shares)
    await book(session, order.id, sale, now)
    if stray:
        parked = postings.unapplied(
            charge=payment.stripe_charge, order_id=order.id, amount=stray, currency="usd", reason="amount_mismatch"
        )
        await book(session, order.id, parked, now)
    return payment


async def book(session: AsyncSession, order_id: UUID, posting: Posting, now: datetime) -> None:
    await ledger.post(session, posting, actor="system", occurred_at=now, workflow_id=f"order-{order_id}")
