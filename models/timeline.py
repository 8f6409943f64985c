"""Timelines: append-only facts that explain a subject's every state change to the people concerned."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Identity, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, MinorUnits


class TimelineEntry(Identified, Base):
    """`kind` names the sentence (`domain/timeline.py`); `key` makes recording it twice record it once."""

    __tablename__ = "timeline_entries"

    seq: Mapped[MinorUnits] = mapped_column(Identity(always=True), unique=True)
    subject_kind: Mapped[str]
    subject_id: Mapped[UUID]
    key: Mapped[str]
    at: Mapped[datetime]
    actor: Mapped[str]
    """`student`, `teacher`, `admin`, `stripe` or `system`."""
    actor_id: Mapped[UUID | None]
    kind: Mapped[str]
    details: Mapped[dict[str, Any]]
    audience: Mapped[str] = mapped_column(server_default="student")
    next_step: Mapped[str | None]
    next_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("audience in ('student', 'staff')", name="audience"),
        UniqueConstraint("subject_kind", "subject_id", "key"),
        Index("ix_timeline_entries_subject_kind_subject_id_seq", "subject_kind", "subject_id", "seq"),
    )
