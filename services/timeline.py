"""Recording and reading timelines."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from models.timeline import TimelineEntry

_RECORD = text(
    """
    insert into timeline_entries (subject_kind, subject_id, key, at, actor, actor_id, kind, details, audience,
                                  next_step, next_at)
    values (:subject_kind, :subject_id, :key, :at, :actor, :actor_id, :kind, :details, :audience, :next_step, :next_at)
    on conflict do nothing
    """
).bindparams(bindparam("details", type_=JSONB()))


async def record(
    session: AsyncSession,
    subject: tuple[str, UUID],
    kind: str,
    at: datetime,
    *,
    key: str | None = None,
    actor: str = "system",
    actor_id: UUID | None = None,
    audience: str = "student",
    next_step: str | None = None,
    next_at: datetime | None = None,
    **details: Any,
) -> None:
    """Adds a fact to `subject` (`("order", id)`), once per `key` (default: once per kind)."""
    await session.execute(
        _RECORD,
        {
            "subject_kind": subject[0],
            "subject_id": subject[1],
            "key": key or kind,
            "at": at,
            "actor": actor,
            "actor_id": actor_id,
            "kind": kind,
            "details": details,
            "audience": audience,
            "next_step": next_step,
            "next_at": next_at,
        },
    )


async def read(session: AsyncSession, subject: tuple[str, UUID], *, staff: bool) -> Sequence[TimelineEntry]:
    """Every fact of a subject in order; those for staff only when `staff`."""
    query = select(TimelineEntry).where(
        TimelineEntry.subject_kind == subject[0], TimelineEntry.subject_id == subject[1]
    )
    if not staff:
        query = query.where(TimelineEntry.audience == "student")
    return (await session.scalars(query.order_by(TimelineEntry.seq))).all()
