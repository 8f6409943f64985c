"""What the outbox holds about somebody or something."""

from uuid import UUID

from sqlalchemy import text

from core.db import Database


async def events_of(db: Database, user_id: UUID) -> list[str]:
    """The types of the user's events, in order."""
    async with db.read() as session:
        found = await session.scalars(
            text("select type from outbox where data->>'user_id' = :user_id order by seq"), {"user_id": str(user_id)}
        )
        return list(found)
