"""What the Enrollment process reads and writes."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from core.db import Database
from domain.contracts.processes import EndEnrollment, EnrollmentState, Subject
from domain.enrollments import EnrollmentStatus
from services import enrollments, processes


class EnrollmentActivities:
    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="enrollments.read")
    async def read(self, subject: Subject) -> EnrollmentState:
        """The enrollment as PostgreSQL has it."""
        async with self._db.transaction() as session:
            enrollment = await enrollments.state(session, subject.id)
            await _note(session, subject.id, enrollment, subject.now)
        return enrollment

    @activity.defn(name="enrollments.end")
    async def end(self, command: EndEnrollment) -> EnrollmentState:
        """Ends it as withdrawn or expired."""
        async with self._db.transaction() as session:
            status = EnrollmentStatus(command.status)
            enrollment = await enrollments.end(session, command.enrollment_id, status, command.now)
            await _note(session, command.enrollment_id, enrollment, command.now)
        return enrollment


async def _note(session: AsyncSession, enrollment_id: UUID, enrollment: EnrollmentState, now: datetime) -> None:
    active = enrollment.status == EnrollmentStatus.ACTIVE
    await processes.note(
        session,
        activity.info().workflow_id or "",
        "enrollment",
        enrollment_id,
        state=enrollment.status,
        now=now,
        waiting_for="the student" if active else None,
        next_step="end access" if active and enrollment.expires_at else None,
        next_at=enrollment.expires_at if active else None,
    )
