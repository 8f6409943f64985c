"""Enrollments: granting, ending and asking for access."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from core.ids import derived_id, new_id
from core.telemetry import current_traceparent
from domain.contracts.events import EnrollmentGranted, EnrollmentRevoked, EnrollmentWithdrawn
from domain.contracts.processes import EnrollmentState
from domain.enrollments import LIVE, EnrollmentNotFound, EnrollmentStatus
from domain.orders import (
    AlreadyEnrolled,
    ClaimState,
    CourseInOpenOrder,
    CourseNotForSale,
    CourseNotFree,
    SeatUnavailable,
)
from models.enrollment import Enrollment, EnrollmentGrant
from models.order import CourseClaim
from services import outbox, seats, timeline
from services.outbox import WAKE
from services.paging import keyset
from services.seats import Offer

LIVE_LIST = ", ".join(f"'{status}'" for status in LIVE)

_GRANTED_BY: Final = {"order": "system", "free": "student", "admin": "admin"}

_CLAIM = text(
    """
    insert into course_claims (id, student_id, course_id, order_id, state)
    values (:id, :student_id, :course_id, :order_id, :state)
    on conflict do nothing
    returning id
    """
)

_LIVE_CLAIM = select(CourseClaim).where(
    CourseClaim.student_id == bindparam("student_id"),
    CourseClaim.course_id == bindparam("course_id"),
    CourseClaim.state.in_((ClaimState.CLAIMED, ClaimState.OWNED)),
)

_GRANT = text(
    f"""
    with live as (
      select id from enrollments
       where student_id = :student_id and course_id = :course_id and status in ({LIVE_LIST})
    ), opened as (
      insert into enrollments (id, student_id, course_id, course_version, status, created_at)
      select :id, :student_id, :course_id, :course_version, 'active', :now where not exists (select from live)
      returning id
    ), enrollment as (
      select id from live union all select id from opened
    ), granted as (
      insert into enrollment_grants (id, enrollment_id, source, order_line_id, actor_id)
      select :grant_id, id, :source, :order_line_id, :actor_id from enrollment
    )
    select id from enrollment
    """  # noqa: S608  (constants only)
)


async def claim(
    session: AsyncSession, student_id: UUID, course_id: UUID, order_id: UUID | None, state: ClaimState
) -> bool:
    """Takes the student's one live claim on the course; False when another order or enrollment has it."""
    taken = await session.scalar(
        _CLAIM,
        {
            "id": new_id(),
            "student_id": student_id,
            "course_id": course_id,
            "order_id": order_id,
            "state": state,
        },
    )
    return taken is not None


async def live_claim(session: AsyncSession, student_id: UUID, course_id: UUID) -> CourseClaim | None:
    claim: CourseClaim | None = await session.scalar(_LIVE_CLAIM, {"student_id": student_id, "course_id": course_id})
    return claim


async def refuse_claimed(session: AsyncSession, student_id: UUID, course_id: UUID) -> None:
    """Raises why the student's claim on the course could not be taken."""
    existing = await live_claim(session, student_id, course_id)
    if existing is not None and existing.state == ClaimState.CLAIMED:
        raise CourseInOpenOrder(f"Order {existing.order_id} for this course is still open.")
    raise AlreadyEnrolled("You have this course already.")


_ENROLL_AT_ONCE: Final = f"""
with claimed as (
  insert into course_claims (id, student_id, course_id, state)
  select $3, $1, c.id, 'owned'
  from courses c
  where c.id = $2 and c.status = 'published' and c.price_amount is null and c.capacity is null
    and not exists (select from enrollments e
                    where e.student_id = $1 and e.course_id = c.id and e.status in ({LIVE_LIST}))
  on conflict do nothing
  returning course_id
), enrolled as (
  insert into enrollments (id, student_id, course_id, course_version, status, created_at)
  select $4, $1, c.id, c.version, 'active', $6
  from claimed join courses c on c.id = claimed.course_id
  returning id, course_id, course_version, status, created_at, expires_at, ended_at, ended_reason
), granted as (
  insert into enrollment_grants (id, enrollment_id, source, actor_id) select $5, id, 'free', $1 from enrolled
), told as (
  insert into timeline_entries (id, subject_kind, subject_id, key, at, actor, actor_id, kind, details)
  select $7, 'enrollment', id, $8, $6, 'student', $1, 'enrollment.granted', '{{"source": "free"}}' from enrolled
), event as (
  insert into outbox (id, type, subject, data, traceparent) select $9, $10, $11, $12, $13 from enrolled
  returning subject
)
select enrolled.*, (select {WAKE} from event) from enrolled
"""  # noqa: S608  (constants only)


async def enroll_at_once(db: Database, student_id: UUID, course_id: UUID, now: datetime) -> Mapping[str, Any] | None:
    """What `enroll_free` does, as one statement that is its own transaction: courses open to everybody meet crowds.

    None, and nothing done, where anything has to be looked at: seats, a price, an earlier claim.
    """
    grant_id, enrollment_id = new_id(), new_id()
    event = EnrollmentGranted(enrollment_id=enrollment_id, course_id=course_id, student_id=student_id, source="free")
    return cast(
        Mapping[str, Any] | None,
        await db.fetch_row(
            _ENROLL_AT_ONCE,
            student_id,
            course_id,
            new_id(),
            enrollment_id,
            grant_id,
            now,
            new_id(),
            f"grant:{grant_id}",
            derived_id(event.type, str(grant_id)),
            event.type,
            event.subject,
            event.model_dump_json(),
            current_traceparent(),
        ),
    )


async def enroll_free(session: AsyncSession, student_id: UUID, course_id: UUID, now: datetime) -> Enrollment:
    """Enrolls in a free course: claim, seat, grant, timeline and event in the caller's one transaction."""
    offer = (await seats.lock_offers(session, [course_id])).get(course_id)
    if offer is None or not offer.published:
        raise CourseNotForSale("There is no such course on offer.")
    if offer.price_amount:
        raise CourseNotFree("This course has a price.")
    if not await claim(session, student_id, course_id, None, ClaimState.OWNED):
        await refuse_claimed(session, student_id, course_id)
    if not await seats.free(session, offer, now):
        raise SeatUnavailable("Every seat of this course is taken or held.")
    return await session.get_one(
        Enrollment, await grant(session, student_id, offer, now, source="free", actor_id=student_id)
    )


async def grant(
    session: AsyncSession,
    student_id: UUID,
    offer: Offer,
    now: datetime,
    *,
    source: str,
    actor_id: UUID,
    order_line_id: UUID | None = None,
) -> UUID:
    """Adds a reason for access and opens the enrollment if it is the first. The caller holds claim and seat.

    Answers the enrollment's id.
    """
    grant_id = derived_id("grant", order_line_id) if order_line_id else new_id()
    enrollment_id: UUID = (
        await session.execute(
            _GRANT,
            {
                "id": new_id(),
                "student_id": student_id,
                "course_id": offer.id,
                "course_version": offer.version,
                "now": now,
                "grant_id": grant_id,
                "source": source,
                "order_line_id": order_line_id,
                "actor_id": actor_id,
            },
        )
    ).scalar_one()
    await timeline.record(
        session,
        ("enrollment", enrollment_id),
        "enrollment.granted",
        now,
        key=f"grant:{grant_id}",
        actor=_GRANTED_BY[source],
        actor_id=None if source == "order" else actor_id,
        source=source,
    )
    event = EnrollmentGranted(enrollment_id=enrollment_id, course_id=offer.id, student_id=student_id, source=source)
    await outbox.emit(session, event, key=str(grant_id))
    return enrollment_id


async def end(
    session: AsyncSession, enrollment_id: UUID, status: EnrollmentStatus, now: datetime, *, reason: str | None = None
) -> EnrollmentState:
    """Ends an enrollment (`withdrawn`, `expired` or `revoked`), its grants and its claim; ended stays ended."""
    enrollment = await session.get(Enrollment, enrollment_id, with_for_update=True)
    if enrollment is None:
        raise EnrollmentNotFound(f"There is no enrollment {enrollment_id}.")
    if enrollment.status not in LIVE:
        return EnrollmentState(status=enrollment.status)
    enrollment.status, enrollment.ended_at, enrollment.ended_reason = status, now, reason or status
    await session.execute(
        update(EnrollmentGrant)
        .where(EnrollmentGrant.enrollment_id == enrollment_id, EnrollmentGrant.ended_at.is_(None))
        .values(ended_at=now, ended_reason=enrollment.ended_reason)
    )
    await session.execute(
        update(CourseClaim)
        .where(
            CourseClaim.student_id == enrollment.student_id,
            CourseClaim.course_id == enrollment.course_id,
            CourseClaim.state == ClaimState.OWNED,
        )
        .values(state=ClaimState.RELEASED)
    )
    withdrawn = status == EnrollmentStatus.WITHDRAWN
    await timeline.record(
        session,
        ("enrollment", enrollment_id),
        f"enrollment.{status}",
        now,
        actor="student" if withdrawn else "system",
        actor_id=enrollment.student_id if withdrawn else None,
        reason=enrollment.ended_reason,
    )
    event = EnrollmentWithdrawn if withdrawn else EnrollmentRevoked
    await outbox.emit(
        session,
        event(enrollment_id=enrollment_id, course_id=enrollment.course_id, student_id=enrollment.student_id),
        key=str(enrollment_id),
    )
    return EnrollmentState(status=status)


async def state(session: AsyncSession, enrollment_id: UUID) -> EnrollmentState:
    """The enrollment as it is now; raises `EnrollmentNotFound`."""
    enrollment = await session.get(Enrollment, enrollment_id)
    if enrollment is None:
        raise EnrollmentNotFound(f"There is no enrollment {enrollment_id}.")
    return EnrollmentState(status=enrollment.status, expires_at=enrollment.expires_at)


async def get_own(session: AsyncSession, enrollment_id: UUID, student_id: UUID | None) -> Enrollment:
    """A student's own enrollment (anyone's with None); raises `EnrollmentNotFound`."""
    query = select(Enrollment).where(Enrollment.id == enrollment_id)
    if student_id is not None:
        query = query.where(Enrollment.student_id == student_id)
    enrollment = await session.scalar(query)
    if enrollment is None:
        raise EnrollmentNotFound("There is no such enrollment.")
    return enrollment


async def page(
    session: AsyncSession, student_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Enrollment]:
    """A student's enrollments, newest first; up to `limit` + 1 rows."""
    query = select(Enrollment).where(Enrollment.student_id == student_id)
    query = keyset(query, Enrollment.created_at, Enrollment.id, after=after, limit=limit)
    return (await session.scalars(query)).all()
