"""Enrollments: joining a free course, leaving one, and what happened to them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from api.deps import Container, ReadTx, requires, whose
from api.pagination import Page, Paging, cut_page
from api.schemas.enrollments import EnrollmentRead
from api.schemas.timeline import TimelineRead, timeline_read
from core import clock
from core.ids import new_id
from domain.enrollments import LIVE, EnrollmentEnded, EnrollmentStatus
from domain.identity import Permission, Principal
from services import enrollments, timeline

router = APIRouter(tags=["enrollments"])

Student = Annotated[Principal, requires(Permission.COURSE_ENROLL)]
Reader = Annotated[Principal, requires(Permission.ENROLLMENT_READ)]


@router.post("/courses/{course_id}/enrollments", status_code=201)
async def enroll(course_id: UUID, container: Container, principal: Student) -> EnrollmentRead:
    """Enrolls in a free course, at once and in one transaction."""
    now = clock.now()
    enrolled = await enrollments.enroll_at_once(container.db, principal.user_id, course_id, now)
    if enrolled is not None:
        return EnrollmentRead.model_validate(dict(enrolled), extra="ignore")
    async with container.db.transaction() as session:
        return EnrollmentRead.model_validate(await enrollments.enroll_free(session, principal.user_id, course_id, now))


@router.get("/me/enrollments")
async def my_enrollments(session: ReadTx, principal: Reader, paging: Paging) -> Page[EnrollmentRead]:
    """My enrollments, newest first."""
    rows = await enrollments.page(session, principal.user_id, after=paging.after(datetime, UUID), limit=paging.limit)
    shown, cursor = cut_page(rows, paging.limit, lambda row: (row.created_at, row.id))
    return Page(items=[EnrollmentRead.model_validate(row) for row in shown], next_cursor=cursor)


@router.get("/enrollments/{enrollment_id}")
async def read_enrollment(enrollment_id: UUID, session: ReadTx, principal: Reader) -> EnrollmentRead:
    """One enrollment; administrators see anyone's."""
    return EnrollmentRead.model_validate(await enrollments.get_own(session, enrollment_id, whose(principal)))


@router.post("/enrollments/{enrollment_id}/withdraw")
async def withdraw(enrollment_id: UUID, container: Container, principal: Student) -> EnrollmentRead:
    """Leaves the course. Access ends at once; it does not give money back."""
    async with container.db.read() as session:
        enrollment = await enrollments.get_own(session, enrollment_id, principal.user_id)
    if enrollment.status == EnrollmentStatus.WITHDRAWN:
        return EnrollmentRead.model_validate(enrollment)
    if enrollment.status not in LIVE:
        raise EnrollmentEnded(f"The enrollment is {enrollment.status}.")
    await container.gateway.withdraw(enrollment_id, update_id=f"withdraw-{new_id()}")
    async with container.db.read() as session:
        return EnrollmentRead.model_validate(await enrollments.get_own(session, enrollment_id, principal.user_id))


@router.get("/enrollments/{enrollment_id}/timeline")
async def enrollment_timeline(enrollment_id: UUID, session: ReadTx, principal: Reader) -> TimelineRead:
    """Everything that happened to the enrollment, and why."""
    await enrollments.get_own(session, enrollment_id, whose(principal))
    staff = principal.can(Permission.PROCESS_READ)
    return timeline_read(await timeline.read(session, ("enrollment", enrollment_id), staff=staff))
