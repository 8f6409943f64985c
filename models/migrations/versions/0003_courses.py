"""Courses, modules, lessons, uploads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _identified() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), server_default=sa.func.uuidv7(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
    ]


def upgrade() -> None:
    _create_uploads()
    _create_courses()
    op.create_table(
        "modules",
        *_identified(),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_modules"),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name="fk_modules_course_id", ondelete="CASCADE"),
        sa.UniqueConstraint("id", "course_id", name="uq_modules_id_course_id"),
        sa.UniqueConstraint(
            "course_id", "position", name="uq_modules_course_id_position", deferrable=True, initially="DEFERRED"
        ),
    )
    _create_lessons()


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        *_identified(),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("filename", sa.String(), nullable=False),
        sa.Column("content_type", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.CHAR(64), nullable=False),
        sa.Column("status", sa.String(), server_default="pending", nullable=False),
        sa.Column("multipart_id", sa.String()),
        sa.Column("rejection", JSONB()),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_uploads_owner_id"),
        sa.CheckConstraint("status in ('pending', 'verifying', 'completed', 'rejected', 'deleting')", name="status"),
        sa.CheckConstraint("purpose in ('attachment', 'video')", name="purpose"),
        sa.CheckConstraint("size > 0", name="size"),
    )
    op.create_index("ix_uploads_owner_id", "uploads", ["owner_id"])
    op.create_index(
        "ix_uploads_removable", "uploads", ["expires_at"], postgresql_where=sa.text("expires_at is not null")
    )


def _create_courses() -> None:
    op.create_table(
        "courses",
        *_identified(),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("slug", sa.String(), nullable=False),
        sa.Column("summary", sa.String(), server_default="", nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("description_html", sa.String(), server_default="", nullable=False),
        sa.Column("language", sa.String(), server_default="en", nullable=False),
        sa.Column("level", sa.String(), server_default="beginner", nullable=False),
        sa.Column("category", sa.String()),
        sa.Column("tags", ARRAY(sa.String()), server_default="{}", nullable=False),
        sa.Column("price_amount", sa.BigInteger()),
        sa.Column("price_currency", sa.CHAR(3)),
        sa.Column("capacity", sa.Integer()),
        sa.Column("status", sa.String(), server_default="draft", nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True)),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("outline", sa.String()),
        sa.PrimaryKeyConstraint("id", name="pk_courses"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name="fk_courses_owner_id"),
        sa.UniqueConstraint("slug", name="uq_courses_slug"),
        sa.CheckConstraint("status in ('draft', 'published', 'unpublished')", name="status"),
        sa.CheckConstraint("level in ('beginner', 'intermediate', 'advanced')", name="level"),
        sa.CheckConstraint("(price_amount is null) = (price_currency is null)", name="price"),
        sa.CheckConstraint("price_amount > 0", name="price_amount"),
        sa.CheckConstraint("capacity > 0", name="capacity"),
        sa.CheckConstraint("status = 'draft' or published_at is not null", name="published"),
    )
    op.create_index("ix_courses_owner_id_id", "courses", ["owner_id", "id"])
    op.create_index("ix_courses_published", "courses", ["id"], postgresql_where=sa.text("status = 'published'"))


def _create_lessons() -> None:
    op.create_table(
        "lessons",
        *_identified(),
        sa.Column("module_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("body", sa.String(), server_default="", nullable=False),
        sa.Column("body_html", sa.String(), server_default="", nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("video_upload_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("id", name="pk_lessons"),
        sa.ForeignKeyConstraint(
            ["module_id", "course_id"],
            ["modules.id", "modules.course_id"],
            name="fk_lessons_module_id_course_id",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["video_upload_id"], ["uploads.id"], name="fk_lessons_video_upload_id"),
        sa.UniqueConstraint("video_upload_id", name="uq_lessons_video_upload_id"),
        sa.UniqueConstraint(
            "module_id", "position", name="uq_lessons_module_id_position", deferrable=True, initially="DEFERRED"
        ),
    )
    op.create_index("ix_lessons_course_id", "lessons", ["course_id"])
    op.create_table(
        "lesson_attachments",
        sa.Column("upload_id", sa.Uuid(), nullable=False),
        sa.Column("lesson_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("upload_id", name="pk_lesson_attachments"),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], name="fk_lesson_attachments_upload_id"),
        sa.ForeignKeyConstraint(
            ["lesson_id"], ["lessons.id"], name="fk_lesson_attachments_lesson_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(
            "lesson_id",
            "position",
            name="uq_lesson_attachments_lesson_id_position",
            deferrable=True,
            initially="DEFERRED",
        ),
    )


def downgrade() -> None:
    for table in ("lesson_attachments", "lessons", "modules", "courses", "uploads"):
        op.drop_table(table)
