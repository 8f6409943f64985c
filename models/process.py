"""A projection of running workflows for operators: what each waits for, since when, and whether it is stuck."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified


class Process(Base):
    """`id` is the workflow id. `last_error` is an error class, never its message (which may quote data)."""

    __tablename__ = "processes"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    state: Mapped[str]
    waiting_for: Mapped[str | None]
    waiting_since: Mapped[datetime | None]
    next_step: Mapped[str | None]
    next_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    stuck_since: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_processes_stuck_since", "stuck_since", postgresql_where=text("stuck_since is not null")),
        Index("ix_processes_updated_at", "updated_at", "id"),
    )


class ProcessAction(Identified, Base):
    """What an operator did to a process: the audit trail."""

    __tablename__ = "process_actions"

    process_id: Mapped[str]
    action: Mapped[str]
    actor_id: Mapped[UUID]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    outcome: Mapped[str]

    __table_args__ = (Index("ix_process_actions_process_id", "process_id"),)
