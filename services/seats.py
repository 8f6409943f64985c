"""Seats of courses with a capacity. Every change is made under the course's row lock, so the count cannot race."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from models.course import Course
from models.enrollment import Enrollment
from models.order import SeatHold


@dataclass(frozen=True, slots=True)
class Offer:
    """A course as a buyer meets it, under lock where it has a capacity. A price of None is free."""

    id: UUID
    owner_id: UUID
    title: str
    published: bool
    version: int
    price_amount: int | None
    price_currency: str | None
    capacity: int | None


async def lock_offers(session: AsyncSession, course_ids: Iterable[UUID]) -> dict[UUID, Offer]:
    """The courses by id, locked in the order of their ids so that two baskets cannot deadlock.

    A course without a capacity is only share-locked: its buyers never wait for each other.
    """
    wanted = sorted(course_ids)
    query = select(
        Course.id,
        Course.owner_id,
        Course.title,
        (Course.status == "published").label("published"),
        Course.version,
        Course.price_amount,
        Course.price_currency,
        Course.capacity,
    ).order_by(Course.id)
    limited = query.where(Course.id.in_(wanted), Course.capacity.is_not(None)).with_for_update(key_share=True)
    open_ended = query.where(Course.id.in_(wanted), Course.capacity.is_(None)).with_for_update(
        read=True, key_share=True
    )
    rows = [*(await session.execute(limited)), *(await session.execute(open_ended))]
    return {row.id: Offer(**row._mapping) for row in rows}


async def free(session: AsyncSession, offer: Offer, now: datetime, *, besides: UUID | None = None) -> bool:
    """Whether a seat is left, not counting what order `besides` holds. Call it under `lock_offers`."""
    if offer.capacity is None:
        return True
    enrolled = (
        select(func.count())
        .select_from(Enrollment)
        .where(Enrollment.course_id == offer.id, Enrollment.status.in_(("active", "completed")))
    )
    held = select(func.count()).select_from(SeatHold).where(SeatHold.course_id == offer.id, SeatHold.expires_at > now)
    if besides:
        held = held.where(SeatHold.order_id != besides)
    taken: int = (await session.execute(select(enrolled.scalar_subquery() + held.scalar_subquery()))).scalar_one()
    return taken < offer.capacity


async def hold(session: AsyncSession, offer: Offer, order_id: UUID, until: datetime) -> None:
    """Keeps a seat for an order (again) until then. Courses without a capacity need no hold."""
    if offer.capacity is not None:
        await session.execute(
            insert(SeatHold)
            .values(order_id=order_id, course_id=offer.id, expires_at=until)
            .on_conflict_do_update(index_elements=[SeatHold.order_id, SeatHold.course_id], set_={"expires_at": until})
        )


async def release(session: AsyncSession, order_id: UUID) -> None:
    """Gives back every seat an order holds."""
    await session.execute(delete(SeatHold).where(SeatHold.order_id == order_id))
