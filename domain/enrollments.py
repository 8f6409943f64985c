"""Enrollments: which of them give access, and what is refused."""

from typing import Final

from domain.errors import Conflict, NotFound

LIVE: Final = ("active", "completed")


class EnrollmentNotFound(NotFound):
    title = "No such enrollment"


class EnrollmentEnded(Conflict):
    title = "The enrollment has ended"
