"""A timeline as the people concerned read it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from api.schemas.base import ResponseModel
from domain.timeline import sentence
from models.timeline import TimelineEntry


class TimelineEntryRead(ResponseModel):
    """`next_step` and `next_at` say what was planned at that moment."""

    at: datetime
    actor: str
    kind: str
    message: str
    details: dict[str, Any]
    next_step: str | None
    next_at: datetime | None


class TimelineRead(ResponseModel):
    items: list[TimelineEntryRead]


def timeline_read(entries: Iterable[TimelineEntry]) -> TimelineRead:
    """The entries with their sentences."""
    return TimelineRead(
        items=[TimelineEntryRead.of(entry, message=sentence(entry.kind, entry.details)) for entry in entries]
    )
