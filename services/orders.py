"""Orders: placing, reading, opening a checkout, ending unpaid. Booking their payments is `services/booking.py`."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import new_id
from core.settings import PlatformSettings
from domain.contracts.events import OrderCanceled, OrderExpired, OrderPlaced
from domain.contracts.processes import CheckoutCreated, OrderState
from domain.errors import FieldError, Invalid
from domain.orders import (
    HOLD_AFTER,
    OPEN,
    ClaimState,
    CourseInOpenOrder,
    CourseNotForSale,
    IdempotencyKeyReused,
    OrderNotFound,
    OrderStatus,
    SeatUnavailable,
    Unapplied,
)
from domain.pricing import LinePrice, price_line, validate_charge
from models.order import CourseClaim, Order, OrderKey, OrderLine
from services import enrollments, outbox, seats, timeline
from services.paging import keyset
from services.seats import Offer

_LOCK = (
    select(Order)
    .where(Order.id == bindparam("id"))
    .with_for_update(key_share=True)
    .execution_options(populate_existing=True)
)
_LINES = select(OrderLine).where(OrderLine.order_id == bindparam("order_id")).order_by(OrderLine.position)
_OF_STUDENT = text("select pg_advisory_xact_lock(hashtextextended(:student_id, 0))")
_SAME_KEY = select(Order).where(
    Order.student_id == bindparam("student_id"),
    or_(
        Order.idempotency_key == bindparam("key"),
        Order.id
        == select(OrderKey.order_id)
        .where(OrderKey.student_id == bindparam("student_id"), OrderKey.key == bindparam("key"))
        .scalar_subquery(),
    ),
)
_SAME_BASKET = select(Order).where(
    Order.student_id == bindparam("student_id"), Order.basket == bindparam("basket"), Order.status.in_(OPEN)
)
_REPRICED = text(
    """
    select exists (
      select from order_lines join courses on courses.id = course_id
      where order_id = :order_id
        and (coalesce(price_amount, 0) <> list_amount or coalesce(price_currency, :currency) <> :currency)
    )
    """
)
_PROGRESS = text(
    """
    select exists (select from checkout_sessions where order_id = :order_id and n = :checkout_n),
           exists (select from payments where order_id = :order_id and settled_at is null)
    """
)
_RECORD_CHECKOUT = text(
    """
    insert into checkout_sessions (stripe_session, order_id, n, url, expires_at)
    values (:stripe_session, :order_id, :n, :url, :expires_at)
    on conflict do nothing
    """
)
_CHECKOUT_URL = text(
    """
    select url from checkout_sessions where order_id = :order_id and n = :checkout_n order by stripe_session limit 1
    """
)

_SLACK = timedelta(minutes=2)
"""Stripe counts a session's shortest life from the moment it creates it, which is later than we decide."""


async def place(
    session: AsyncSession,
    student_id: UUID,
    course_ids: Sequence[UUID],
    *,
    idempotency_key: str,
    policy: PlatformSettings,
    now: datetime,
) -> Order:
    """Freezes prices and holds a seat and a claim for each course.

    The same key returns the same order for ever, and so does another click on a basket that is still open, unless its
    price has changed.
    """
    basket = ",".join(str(course_id) for course_id in sorted(course_ids))
    await session.execute(_OF_STUDENT, {"student_id": str(student_id)})
    existing = await _existing(session, student_id, basket, idempotency_key)
    if existing is not None:
        return existing
    offers = await seats.lock_offers(session, course_ids)
    chosen = _check_offers(course_ids, offers)
    await _check_seats(session, student_id, chosen, now)
    prices = [
        price_line(offer.price_amount or 0, platform_bps=policy.platform_bps, creators={offer.owner_id: 1})
        for offer in chosen
    ]
    order = _new_order(student_id, basket, idempotency_key, chosen, prices, policy, now)
    session.add(order)
    await session.flush()
    session.add_all(
        _line(order, position, offer, price) for position, (offer, price) in enumerate(zip(chosen, prices, strict=True))
    )
    await _hold(session, order, chosen)
    await timeline.record(
        session,
        ("order", order.id),
        "order.placed",
        now,
        actor="student",
        actor_id=student_id,
        total=order.gross,
        currency=order.currency,
        next_step="open the payment page" if order.gross else "open the courses",
    )
    await outbox.emit(session, OrderPlaced(order_id=order.id, student_id=student_id), key=str(order.id))
    return order


def _new_order(
    student_id: UUID,
    basket: str,
    key: str,
    chosen: Sequence[Offer],
    prices: Sequence[LinePrice],
    policy: PlatformSettings,
    now: datetime,
) -> Order:
    gross = sum(price.gross for price in prices)
    currency = next((offer.price_currency for offer in chosen if offer.price_currency), "usd")
    validate_charge(gross, currency)
    return Order(
        id=new_id(),
        student_id=student_id,
        status=OrderStatus.PENDING,
        currency=currency,
        list_total=sum(price.list_amount for price in prices),
        discount_total=sum(price.discount for price in prices),
        tax_total=sum(price.tax for price in prices),
        gross=gross,
        basket=basket,
        idempotency_key=key,
        checkout_n=1,
        expires_at=_checkout_end(policy, now),
        created_at=now,
    )


async def _check_seats(session: AsyncSession, student_id: UUID, chosen: Sequence[Offer], now: datetime) -> None:
    """Refuses before anything is written: most buyers of a full course end here."""
    for position, offer in enumerate(chosen):
        if not await seats.free(session, offer, now):
            if await enrollments.live_claim(session, student_id, offer.id) is not None:
                await enrollments.refuse_claimed(session, student_id, offer.id)
            raise SeatUnavailable(
                f"Every seat of {offer.title!r} is taken or held.",
                errors=[FieldError(f"items.{position}.course_id", "No seat is left.", "SeatUnavailable")],
            )


async def _hold(session: AsyncSession, order: Order, chosen: Sequence[Offer]) -> None:
    """Takes the student's claim on each course, and the seat that `_check_seats` found under the course's lock."""
    for offer in chosen:
        if not await enrollments.claim(session, order.student_id, offer.id, order.id, ClaimState.CLAIMED):
            await enrollments.refuse_claimed(session, order.student_id, offer.id)
        await seats.hold(session, offer, order.id, order.expires_at + HOLD_AFTER)


async def _existing(session: AsyncSession, student_id: UUID, basket: str, key: str) -> Order | None:
    same_key: Order | None = await session.scalar(_SAME_KEY, {"student_id": student_id, "key": key})
    if same_key is not None:
        if same_key.basket != basket:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was used for a different basket.",
                errors=[FieldError("Idempotency-Key", "Already used for another request.", "IdempotencyKeyReused")],
            )
        return same_key
    same_basket: Order | None = await session.scalar(_SAME_BASKET, {"student_id": student_id, "basket": basket})
    if same_basket is not None:
        if await session.scalar(_REPRICED, {"order_id": same_basket.id, "currency": same_basket.currency}):
            raise CourseInOpenOrder(
                f"Order {same_basket.id} is still open at a former price: pay it, or cancel it to order at today's."
            )
        session.add(OrderKey(student_id=student_id, key=key, order_id=same_basket.id))
    return same_basket


def _check_offers(course_ids: Sequence[UUID], offers: dict[UUID, Offer]) -> list[Offer]:
    errors = [
        FieldError(f"items.{position}.course_id", "There is no such course on offer.", "CourseNotForSale")
        for position, course_id in enumerate(course_ids)
        if course_id not in offers or not offers[course_id].published
    ]
    if errors:
        raise CourseNotForSale("A course of the order is not on offer.", errors=errors)
    chosen = [offers[course_id] for course_id in course_ids]
    currencies = {offer.price_currency for offer in chosen if offer.price_currency}
    if len(currencies) > 1:
        raise Invalid(
            "An order has one currency.",
            errors=[
                FieldError("items", f"The courses are priced in {', '.join(sorted(currencies))}.", "mixed_currency")
            ],
        )
    return chosen


def _line(order: Order, position: int, offer: Offer, price: LinePrice) -> OrderLine:
    return OrderLine(
        id=new_id(),
        order_id=order.id,
        position=position,
        course_id=offer.id,
        creator_id=offer.owner_id,
        title=offer.title,
        list_amount=price.list_amount,
        discount=price.discount,
        net=price.net,
        platform_bps=price.platform_bps,
    )


def _checkout_end(policy: PlatformSettings, now: datetime) -> datetime:
    return (now + timedelta(seconds=policy.checkout_ttl) + _SLACK).replace(microsecond=0)


async def state(session: AsyncSession, order_id: UUID) -> OrderState:
    """The order as its process sees it; raises `OrderNotFound`."""
    order = await session.get(Order, order_id)
    if order is None:
        raise OrderNotFound(f"There is no order {order_id}.")
    return await describe(session, order)


async def describe(session: AsyncSession, order: Order) -> OrderState:
    """What its process needs to know of the order, whose changes have been flushed."""
    has_checkout, has_unsettled = (
        await session.execute(_PROGRESS, {"order_id": order.id, "checkout_n": order.checkout_n})
    ).one()
    return OrderState(
        status=order.status,
        expires_at=order.expires_at,
        checkout_n=order.checkout_n,
        has_checkout=has_checkout,
        settled=not has_unsettled,
    )


async def renew_checkout(session: AsyncSession, order_id: UUID, policy: PlatformSettings, now: datetime) -> OrderState:
    """A new number and a new end for the checkout, after Stripe refused the last one for good.

    An order whose seats were given to others meanwhile ends instead.
    """
    order = await lock(session, order_id)
    if order.status not in OPEN:
        return await describe(session, order)
    lines = await lines_of(session, order_id)
    offers = (await seats.lock_offers(session, [line.course_id for line in lines])).values()
    if all([await seats.free(session, offer, now, order_id=order_id) for offer in offers]):
        order.checkout_n += 1
        order.expires_at = _checkout_end(policy, now)
        for offer in offers:
            await seats.hold(session, offer, order_id, order.expires_at + HOLD_AFTER)
    else:
        await close(session, order, Unapplied.FULL, now)
    return await describe(session, order)


async def record_checkout(
    session: AsyncSession, order_id: UUID, checkout: CheckoutCreated, now: datetime
) -> OrderState:
    """Stores the Checkout Session Stripe made; the order now waits for its payment."""
    order = await lock(session, order_id)
    await session.execute(
        _RECORD_CHECKOUT,
        {
            "stripe_session": checkout.stripe_session,
            "order_id": order_id,
            "n": checkout.n,
            "url": checkout.url,
            "expires_at": checkout.expires_at,
        },
    )
    if order.status == OrderStatus.PENDING:
        order.status = OrderStatus.PAYING
    await timeline.record(
        session,
        ("order", order_id),
        "checkout.opened",
        now,
        key=f"checkout:{checkout.n}",
        next_step="your payment",
        next_at=checkout.expires_at,
    )
    return await describe(session, order)


async def close(session: AsyncSession, order: Order, reason: str, now: datetime) -> None:
    """Ends an order that bought nothing, as its student asked (`canceled`) or for another reason.

    What it held is given back.
    """
    canceled = reason == OrderStatus.CANCELED
    order.status = OrderStatus.CANCELED if canceled else OrderStatus.EXPIRED
    order.closed_reason, order.closed_at = reason, now
    await seats.release(session, order.id)
    await session.execute(
        update(CourseClaim)
        .where(CourseClaim.order_id == order.id, CourseClaim.state == ClaimState.CLAIMED)
        .values(state=ClaimState.RELEASED)
    )
    await timeline.record(
        session,
        ("order", order.id),
        f"order.{reason}" if reason == order.status else "order.refused",
        now,
        actor="student" if canceled else "system",
        actor_id=order.student_id if canceled else None,
        reason=reason,
    )
    event = OrderCanceled if canceled else OrderExpired
    await outbox.emit(session, event(order_id=order.id, student_id=order.student_id), key=str(order.id))


async def lock(session: AsyncSession, order_id: UUID) -> Order:
    """The order under its row lock; raises `OrderNotFound`."""
    order: Order | None = await session.scalar(_LOCK, {"id": order_id})
    if order is None:
        raise OrderNotFound(f"There is no order {order_id}.")
    return order


async def lines_of(session: AsyncSession, order_id: UUID) -> Sequence[OrderLine]:
    return (await session.scalars(_LINES, {"order_id": order_id})).all()


async def get_own(session: AsyncSession, order_id: UUID, student_id: UUID | None) -> Order:
    """A student's own order (anyone's with None); raises `OrderNotFound`."""
    query = select(Order).where(Order.id == order_id)
    if student_id is not None:
        query = query.where(Order.student_id == student_id)
    order = await session.scalar(query)
    if order is None:
        raise OrderNotFound("There is no such order.")
    return order


async def page(
    session: AsyncSession, student_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Order]:
    """A student's orders, newest first; up to `limit` + 1 rows."""
    query = select(Order).where(Order.student_id == student_id)
    return (await session.scalars(keyset(query, Order.created_at, Order.id, after=after, limit=limit))).all()


async def checkout_url(session: AsyncSession, order: Order) -> str | None:
    """Where to pay, while the order waits for it."""
    if order.status not in OPEN:
        return None
    url: str | None = await session.scalar(_CHECKOUT_URL, {"order_id": order.id, "checkout_n": order.checkout_n})
    return url
