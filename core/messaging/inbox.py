"""Which events a consumer has handled."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_RECORD = text(
    "insert into inbox (consumer, event_id) values (:consumer, :event_id) on conflict do nothing returning event_id"
)
_HANDLED = text("select 1 from inbox where consumer = :consumer and event_id = :event_id")


async def record(session: AsyncSession, consumer: str, event_id: UUID) -> bool:
    """Notes the event as handled. False when it was already; waits for whoever is handling it right now."""
    return await session.scalar(_RECORD, {"consumer": consumer, "event_id": event_id}) is not None


async def handled(session: AsyncSession, consumer: str, event_id: UUID) -> bool:
    """Whether the event was handled before."""
    return await session.scalar(_HANDLED, {"consumer": consumer, "event_id": event_id}) is not None
