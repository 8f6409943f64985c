"""Processes as operators see them."""

from datetime import datetime
from uuid import UUID

from api.schemas.base import ResponseModel


class ProcessRead(ResponseModel):
    """What a process waits for since when, what it does next and when, and whether it is stuck."""

    id: str
    kind: str
    subject_id: UUID
    state: str
    waiting_for: str | None
    waiting_since: datetime | None
    next_step: str | None
    next_at: datetime | None
    last_error: str | None
    stuck_since: datetime | None
    updated_at: datetime


class RetryRead(ResponseModel):
    """What the process was doing when it was asked to try again."""

    process: str
    doing: str
