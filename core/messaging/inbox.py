"""Which events a consumer has handled."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database

_RECORD = text(
    "insert into inbox (consumer, event_id) values (:consumer, :event_id) on conflict do nothing returning event_id"
)


async def record(session: AsyncSession, consumer: str, event_id: UUID) -> bool:
    """Notes the event as handled. False when it was already; waits for whoever is handling it right now."""
    return await session.scalar(_RECORD, {"consumer": consumer, "event_id": event_id}) is not None


async def handled(db: Database, consumer: str, event_id: UUID) -> bool:
    """Whether the event was handled before."""
    query = "select from inbox where consumer = $1 and event_id = $2"
    return await db.fetch_row(query, consumer, event_id) is not None


async def note(db: Database, consumer: str, event_id: UUID) -> None:
    """Notes the event as handled, in a transaction of its own."""
    statement = "insert into inbox (consumer, event_id) values ($1, $2) on conflict do nothing"
    await db.fetch_row(statement, consumer, event_id)
