"""The inbox of Stripe's webhooks: stored before they are acted upon, dispatched at least once."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.integrations.stripe import WebhookEvent
from domain.stripe_events import concerns
from models.order import CheckoutSession, Order
from models.payment import Payment, Refund, StripeEvent

Target = tuple[str, UUID]
"""The kind and the subject of a process."""


async def store(session: AsyncSession, event: WebhookEvent) -> Target | None:
    """Keeps a verified event; the process to poke, or None when it is known already or concerns nobody here."""
    target = concerns(event.type, event.data)
    if target is not None and not await _known(session, target):
        target = None
    new = await session.scalar(
        insert(StripeEvent)
        .values(
            id=event.id,
            account=event.account,
            type=event.type,
            object_id=event.object_id,
            process_kind=target[0] if target else None,
            process_subject=target[1] if target else None,
            created=event.created,
            payload=event.data,
        )
        .on_conflict_do_nothing()
        .returning(StripeEvent.id)
    )
    if new is None or target is None:
        return None
    if event.type.startswith("checkout.session."):
        await _learn_session(session, target[1], event)
    if await _booked_and_settled(session, event.object_id):
        await mark_dispatched(session, [event.id])
        return None
    return target


async def _known(session: AsyncSession, target: Target) -> bool:
    """Another environment may share the Stripe account: its events are stored and ignored."""
    table = Order if target[0] == "order" else Refund
    return bool(await session.scalar(select(exists().where(table.id == target[1]))))


async def _learn_session(session: AsyncSession, order_id: UUID, event: WebhookEvent) -> None:
    """A Checkout Session whose creation was never answered is known from its webhook, and will be read at Stripe."""
    metadata = event.data.get("metadata") or {}
    if "attempt" in metadata:
        await session.execute(
            insert(CheckoutSession)
            .values(
                order_id=order_id,
                n=int(metadata["attempt"]),
                stripe_session=event.object_id,
                url=event.data.get("url") or "",
                expires_at=datetime.fromtimestamp(event.data["expires_at"], event.created.tzinfo),
            )
            .on_conflict_do_nothing()
        )


async def _booked_and_settled(session: AsyncSession, object_id: str) -> bool:
    """Whether the event speaks of a payment that is booked and settled: it can teach nothing more."""
    query = select(
        exists().where(
            Payment.settled_at.is_not(None),
            Payment.booked_at.is_not(None),
            or_(
                Payment.stripe_session == object_id,
                Payment.stripe_payment_intent == object_id,
                Payment.stripe_charge == object_id,
            ),
        )
    )
    return bool(await session.scalar(query))


async def mark_dispatched(session: AsyncSession, event_ids: Sequence[str]) -> None:
    """The processes concerned have been poked."""
    await session.execute(update(StripeEvent).where(StripeEvent.id.in_(event_ids)).values(dispatched_at=func.now()))


async def undispatched(session: AsyncSession, now: datetime, *, limit: int = 200) -> list[tuple[str, Target]]:
    """Events whose process was not poked within 10 seconds, oldest first."""
    query = (
        select(StripeEvent.id, StripeEvent.process_kind, StripeEvent.process_subject)
        .where(
            StripeEvent.dispatched_at.is_(None),
            StripeEvent.process_kind.is_not(None),
            StripeEvent.received_at < now - timedelta(seconds=10),
        )
        .order_by(StripeEvent.received_at)
        .limit(limit)
    )
    return [
        (event_id, (kind, subject))
        for event_id, kind, subject in await session.execute(query)
        if kind is not None and subject is not None
    ]
