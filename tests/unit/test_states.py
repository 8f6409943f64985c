"""The states in the domain are those the database takes."""

import re
from enum import StrEnum

import pytest
from sqlalchemy import CheckConstraint, Table

from domain.courses import CourseStatus
from domain.enrollments import EnrollmentStatus
from domain.identity import TeacherRequestStatus
from domain.orders import ClaimState, OrderStatus
from domain.refunds import RefundStatus
from domain.uploads import UploadStatus
from models.base import Base


def _taken(table: Table, column: str) -> set[str]:
    checks = [str(check.sqltext) for check in table.constraints if isinstance(check, CheckConstraint)]
    (check,) = (check for check in checks if check.startswith(f"{column} in "))
    return set(re.findall(r"'(\w+)'", check))


@pytest.mark.parametrize(
    ("table", "column", "states"),
    [
        ("courses", "status", CourseStatus),
        ("uploads", "status", UploadStatus),
        ("orders", "status", OrderStatus),
        ("course_claims", "state", ClaimState),
        ("enrollments", "status", EnrollmentStatus),
        ("teacher_requests", "status", TeacherRequestStatus),
    ],
)
def test_the_database_takes_every_state_and_no_other(table: str, column: str, states: type[StrEnum]) -> None:
    assert _taken(Base.metadata.tables[table], column) == set(states)


def test_the_database_takes_every_state_of_a_refund() -> None:
    assert _taken(Base.metadata.tables["refunds"], "status") >= set(RefundStatus)
