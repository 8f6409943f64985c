"""Courses with their modules and lessons. Every change of any of them raises the course's `version`."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, MinorUnits, Timestamped


class Course(Identified, Timestamped, Base):
    """What a teacher offers. `price_amount` and `price_currency` both null: free; `capacity` null: no limit."""

    __tablename__ = "courses"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str]
    slug: Mapped[str] = mapped_column(unique=True)
    summary: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")
    """Markdown; `description_html` is the same, rendered and made safe when it was written."""
    description_html: Mapped[str] = mapped_column(server_default="")
    language: Mapped[str] = mapped_column(server_default="en")
    level: Mapped[str] = mapped_column(server_default="beginner")
    category: Mapped[str | None]
    tags: Mapped[list[str]] = mapped_column(ARRAY(String), server_default="{}")
    price_amount: Mapped[MinorUnits | None]
    price_currency: Mapped[str | None] = mapped_column(CHAR(3))
    capacity: Mapped[int | None]
    status: Mapped[str] = mapped_column(server_default="draft")
    published_at: Mapped[datetime | None]
    """When it was published first."""
    version: Mapped[int] = mapped_column(server_default="1")
    outline: Mapped[str | None] = mapped_column(deferred=True)
    """The outline as the API answers it (JSON), rewritten with every new version."""

    __table_args__ = (
        CheckConstraint("status in ('draft', 'published', 'unpublished')", name="status"),
        CheckConstraint("level in ('beginner', 'intermediate', 'advanced')", name="level"),
        CheckConstraint("(price_amount is null) = (price_currency is null)", name="price"),
        CheckConstraint("price_amount > 0", name="price_amount"),
        CheckConstraint("capacity > 0", name="capacity"),
        CheckConstraint("status = 'draft' or published_at is not null", name="published"),
        Index("ix_courses_owner_id_id", "owner_id", "id"),
        Index("ix_courses_published", "id", postgresql_where=text("status = 'published'")),
    )


class Module(Identified, Timestamped, Base):
    """A chapter of a course."""

    __tablename__ = "modules"

    course_id: Mapped[UUID] = mapped_column(ForeignKey("courses.id", ondelete="CASCADE"))
    title: Mapped[str]
    position: Mapped[int]

    __table_args__ = (
        UniqueConstraint("id", "course_id"),
        UniqueConstraint("course_id", "position", deferrable=True, initially="DEFERRED"),
    )


class Lesson(Identified, Timestamped, Base):
    """One lesson: Markdown, a video, attachments. It belongs to the course its module belongs to."""

    __tablename__ = "lessons"

    module_id: Mapped[UUID]
    course_id: Mapped[UUID]
    title: Mapped[str]
    body: Mapped[str] = mapped_column(server_default="")
    body_html: Mapped[str] = mapped_column(server_default="")
    position: Mapped[int]
    video_upload_id: Mapped[UUID | None] = mapped_column(ForeignKey("uploads.id"), unique=True)

    __table_args__ = (
        ForeignKeyConstraint(["module_id", "course_id"], ["modules.id", "modules.course_id"], ondelete="CASCADE"),
        UniqueConstraint("module_id", "position", deferrable=True, initially="DEFERRED"),
        Index("ix_lessons_course_id", "course_id"),
    )


class LessonAttachment(Base):
    """A file beside a lesson's text. An upload is attached at most once."""

    __tablename__ = "lesson_attachments"

    upload_id: Mapped[UUID] = mapped_column(ForeignKey("uploads.id"), primary_key=True)
    lesson_id: Mapped[UUID] = mapped_column(ForeignKey("lessons.id", ondelete="CASCADE"))
    position: Mapped[int]

    __table_args__ = (UniqueConstraint("lesson_id", "position", deferrable=True, initially="DEFERRED"),)
