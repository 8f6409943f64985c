"""Enrollments: which of them give access, and what is refused."""

from enum import StrEnum
from typing import Final

from domain.errors import Conflict, NotFound


class EnrollmentStatus(StrEnum):
    """active → completed; from both to withdrawn, revoked or expired."""

    ACTIVE = "active"
    COMPLETED = "completed"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"
    EXPIRED = "expired"


LIVE: Final = (EnrollmentStatus.ACTIVE, EnrollmentStatus.COMPLETED)


class EnrollmentNotFound(NotFound):
    title = "No such enrollment"


class EnrollmentEnded(Conflict):
    title = "The enrollment has ended"
