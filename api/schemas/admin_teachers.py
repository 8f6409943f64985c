"""Requests to teach, as administrators see them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from api.schemas.base import ResponseModel


class RequestStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class TeacherRequestRead(ResponseModel):
    id: UUID
    user_id: UUID
    email: str
    name: str
    status: RequestStatus
    created_at: datetime
    decided_at: datetime | None
    decided_by: UUID | None


class TeacherDecision(ResponseModel):
    id: UUID
    user_id: UUID
    status: RequestStatus
    decided_at: datetime
    decided_by: UUID
