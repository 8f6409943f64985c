"""Enrollments as clients see them."""

from datetime import datetime
from uuid import UUID

from api.schemas.base import ResponseModel
from domain.enrollments import EnrollmentStatus


class EnrollmentRead(ResponseModel):
    """`course_version` is the version of the course the student follows; `expires_at` null is access without end."""

    id: UUID
    course_id: UUID
    course_version: int
    status: EnrollmentStatus
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    ended_reason: str | None
