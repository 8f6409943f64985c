"""Enrollments and the grants their access is the union of."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, Timestamped


class Enrollment(Identified, Timestamped, Base):
    """A student's access to a course, pinned to the course version of the day. At most one is active."""

    __tablename__ = "enrollments"

    student_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    course_id: Mapped[UUID] = mapped_column(ForeignKey("courses.id"))
    course_version: Mapped[int]
    status: Mapped[str] = mapped_column(server_default="active")
    expires_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("status in ('active', 'completed', 'withdrawn', 'revoked', 'expired')", name="status"),
        Index(
            "uq_enrollments_live",
            "student_id",
            "course_id",
            unique=True,
            postgresql_where=text("status in ('active', 'completed')"),
        ),
        Index("ix_enrollments_course_id_status", "course_id", "status"),
        Index("ix_enrollments_student_id_created_at", "student_id", "created_at"),
    )


class EnrollmentGrant(Identified, Timestamped, Base):
    """One reason for access: an order line, a free enrollment or an admin's act. Ending one never ends another."""

    __tablename__ = "enrollment_grants"

    enrollment_id: Mapped[UUID] = mapped_column(ForeignKey("enrollments.id", ondelete="CASCADE"))
    source: Mapped[str]
    order_line_id: Mapped[UUID | None] = mapped_column(ForeignKey("order_lines.id"), unique=True)
    actor_id: Mapped[UUID]
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("source in ('order', 'free', 'admin')", name="source"),
        Index("ix_enrollment_grants_enrollment_id", "enrollment_id"),
    )
