"""Requests to teach, as administrators see them."""

from datetime import datetime
from uuid import UUID

from api.schemas.base import ResponseModel
from domain.identity import TeacherRequestStatus


class TeacherRequestRead(ResponseModel):
    id: UUID
    user_id: UUID
    email: str
    name: str
    status: TeacherRequestStatus
    created_at: datetime
    decided_at: datetime | None
    decided_by: UUID | None


class TeacherDecision(ResponseModel):
    id: UUID
    user_id: UUID
    status: TeacherRequestStatus
    decided_at: datetime
    decided_by: UUID
