"""Seats of courses with a capacity. Every change is made under the course's row lock, so the count cannot race."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.orders import HOLD_AFTER, OPEN

_OFFER = """
select id, owner_id, title, status = 'published' as published, version, price_amount, price_currency, capacity
from courses where id = any(cast(:ids as uuid[])) and capacity is
"""
_LOCK_OFFERS = text(
    f"""
    with limited as ({_OFFER} not null order by id for no key update),
         open_ended as ({_OFFER} null order by id for key share)
    select * from limited union all select * from open_ended
    """  # noqa: S608  (constants only)
)

_FREE = text(
    """
    select exists (select from seat_holds
                    where course_id = :course_id and expires_at > :now and order_id = cast(:order_id as uuid))
        or (select count(*) from enrollments where course_id = :course_id and status in ('active', 'completed'))
         + (select count(*) from seat_holds where course_id = :course_id and expires_at > :now) < :capacity
    """
)

_HOLD = text(
    """
    insert into seat_holds (order_id, course_id, expires_at) values (:order_id, :course_id, :until)
    on conflict (order_id, course_id) do update set expires_at = excluded.expires_at
    """
)

_HOLD_FOR_OPEN_ORDERS = text(
    """
    insert into seat_holds (order_id, course_id, expires_at)
    select orders.id, course_id, orders.expires_at + :after
    from order_lines join orders on orders.id = order_id
    where course_id = :course_id and orders.status = any(:open)
    on conflict do nothing
    """
)

_RELEASE = text("delete from seat_holds where order_id = :order_id")


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
    rows = await session.execute(_LOCK_OFFERS, {"ids": list(course_ids)})
    return {row.id: Offer(**row._mapping) for row in rows}


async def free(session: AsyncSession, offer: Offer, now: datetime, *, order_id: UUID | None = None) -> bool:
    """Whether a seat is left, or is held for the order whatever became of the capacity since.

    Call it under `lock_offers`.
    """
    if offer.capacity is None:
        return True
    found = await session.execute(
        _FREE, {"course_id": offer.id, "capacity": offer.capacity, "now": now, "order_id": order_id}
    )
    return bool(found.scalar_one())


async def hold(session: AsyncSession, offer: Offer, order_id: UUID, until: datetime) -> None:
    """Keeps a seat for an order (again) until then. Courses without a capacity need no hold."""
    if offer.capacity is not None:
        await session.execute(_HOLD, {"order_id": order_id, "course_id": offer.id, "until": until})


async def hold_for_open_orders(session: AsyncSession, course_id: UUID) -> None:
    """The course is getting a capacity: who is buying it has been promised a seat already."""
    await session.execute(_HOLD_FOR_OPEN_ORDERS, {"course_id": course_id, "after": HOLD_AFTER, "open": list(OPEN)})


async def release(session: AsyncSession, order_id: UUID) -> None:
    """Gives back every seat an order holds."""
    await session.execute(_RELEASE, {"order_id": order_id})
