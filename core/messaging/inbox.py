"""Which events a consumer has handled."""

from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from models.messaging import InboxEvent


async def record(session: AsyncSession, consumer: str, event_id: UUID) -> bool:
    """Notes the event as handled. False when it was already; waits for whoever is handling it right now."""
    statement = (
        insert(InboxEvent)
        .values(consumer=consumer, event_id=event_id)
        .on_conflict_do_nothing()
        .returning(InboxEvent.event_id)
    )
    return await session.scalar(statement) is not None


async def handled(session: AsyncSession, consumer: str, event_id: UUID) -> bool:
    """Whether the event was handled before."""
    found = exists().where(InboxEvent.consumer == consumer, InboxEvent.event_id == event_id)
    return bool(await session.scalar(select(found)))
