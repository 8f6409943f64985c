"""Free enrollment in one statement leaves what the general way leaves, and keeps its hands off everything else."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import clock
from core.db import Database
from services import enrollments, seats
from services.enrollments import enroll_at_once, enroll_free
from tests.support.scenes import add_course, add_user

_ROWS = """
select to_jsonb(e) - 'id' as enrollment, to_jsonb(g) - 'id' - 'enrollment_id' as grant,
  to_jsonb(c) - 'id' as claim, to_jsonb(t) - 'id' - 'seq' - 'subject_id' - 'key' as entry,
  to_jsonb(o) - 'id' - 'seq' - 'subject' - 'data' as event, o.data - 'enrollment_id' as data,
  t.key = 'grant:' || g.id as keyed, o.subject = 'enrollment/' || e.id as addressed,
  o.data ->> 'enrollment_id' = e.id::text as named
from enrollments e
join enrollment_grants g on g.enrollment_id = e.id
join course_claims c on c.student_id = e.student_id and c.course_id = e.course_id
join timeline_entries t on t.subject_id = e.id
join outbox o on o.subject = 'enrollment/' || e.id
where e.student_id = :student
"""
_TIMES = ("created_at", "updated_at")


async def _course(db: Database, **fields: Any) -> UUID:
    async with db.transaction() as session:
        course = await add_course(session, (await add_user(session)).id, "Tides", price=None)
        for name, value in fields.items():
            setattr(course, name, value)
        return course.id


async def _student(db: Database) -> UUID:
    async with db.transaction() as session:
        return (await add_user(session)).id


async def _left(db: Database, student_id: UUID) -> list[dict[str, Any]]:
    """The rows of the student's enrollment without what differs each time; a student is called "me"."""
    async with db.read() as session:
        rows = [dict(row) for row in (await session.execute(text(_ROWS), {"student": student_id})).mappings()]
    for row in rows:
        for name, part in row.items():
            if isinstance(part, dict):
                row[name] = {
                    field: "me" if value == str(student_id) else value
                    for field, value in part.items()
                    if field not in _TIMES
                }
    return rows


async def test_both_ways_to_enroll_leave_the_same_rows(db: Database) -> None:
    course_id, now = await _course(db), clock.now()
    hurried, patient = await _student(db), await _student(db)
    enrolled = await enroll_at_once(db, hurried, course_id, now)
    async with db.transaction() as session:
        general = await enroll_free(session, patient, course_id, now)
    assert enrolled is not None
    assert (enrolled["status"], enrolled["course_version"]) == (general.status, general.course_version)
    left = await _left(db, hurried)
    assert left == await _left(db, patient)
    assert [(row["keyed"], row["addressed"], row["named"]) for row in left] == [(True, True, True)]


@pytest.mark.parametrize(
    "fields",
    [{"capacity": 10}, {"price_amount": 4900, "price_currency": "usd"}, {"status": "unpublished"}],
    ids=["seats", "price", "unpublished"],
)
async def test_what_has_to_be_looked_at_is_left_to_the_general_way(db: Database, fields: dict[str, Any]) -> None:
    course_id, student_id = await _course(db, **fields), await _student(db)
    assert await enroll_at_once(db, student_id, course_id, clock.now()) is None
    assert await _left(db, student_id) == []


async def test_a_second_click_does_nothing(db: Database) -> None:
    course_id, student_id = await _course(db), await _student(db)
    assert await enroll_at_once(db, student_id, course_id, clock.now()) is not None
    before = await _left(db, student_id)
    assert await enroll_at_once(db, student_id, course_id, clock.now()) is None
    assert await _left(db, student_id) == before


async def test_access_given_for_another_reason_is_met_by_the_general_way(db: Database) -> None:
    course_id, student_id = await _course(db), await _student(db)
    async with db.transaction() as session:
        offer = (await seats.lock_offers(session, [course_id]))[course_id]
        await enrollments.grant(session, student_id, offer, clock.now(), source="admin", actor_id=student_id)
    assert await enroll_at_once(db, student_id, course_id, clock.now()) is None
    async with db.read() as session:
        claims = await session.scalar(
            text("select count(*) from course_claims where student_id = :student"), {"student": student_id}
        )
    assert claims == 0


async def test_a_course_that_does_not_exist_is_left_to_the_general_way(db: Database) -> None:
    student_id = await _student(db)
    assert await enroll_at_once(db, student_id, student_id, clock.now()) is None
