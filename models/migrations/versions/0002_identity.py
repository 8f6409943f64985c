"""Accounts: users, roles, sessions, refresh tokens, e-mailed tokens, requests to teach."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _id() -> sa.Column[UUID]:
    return sa.Column("id", sa.Uuid(), primary_key=True, server_default=sa.text("uuidv7()"))


def _at(name: str, *, now: bool = False, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=sa.func.now() if now else None)


def _user(*, primary_key: bool = False) -> sa.Column[UUID]:
    user = sa.ForeignKey("users.id", ondelete="cascade")
    return sa.Column("user_id", sa.Uuid(), user, nullable=False, primary_key=primary_key)


def upgrade() -> None:
    op.create_table(
        "users",
        _id(),
        sa.Column("email", sa.String(), nullable=False, unique=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        _at("email_verified_at", nullable=True),
        sa.Column("status", sa.String(), nullable=False, server_default="active"),
        _at("created_at", now=True),
        _at("updated_at", now=True),
        sa.CheckConstraint("email = lower(email) and length(email) <= 254", "email"),
        sa.CheckConstraint("status in ('active', 'suspended')", "status"),
    )
    op.create_table(
        "user_roles",
        _user(primary_key=True),
        sa.Column("role", sa.String(), primary_key=True),
        _at("granted_at", now=True),
        sa.CheckConstraint("role in ('student', 'teacher', 'admin')", "role"),
    )
    op.create_table(
        "sessions", _id(), _user(), _at("created_at", now=True), _at("expires_at"), _at("revoked_at", nullable=True)
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"])
    op.create_table(
        "refresh_tokens",
        _id(),
        sa.Column("session_id", sa.Uuid(), sa.ForeignKey("sessions.id", ondelete="cascade"), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False, unique=True),
        _at("created_at", now=True),
        _at("used_at", nullable=True),
    )
    op.create_index(op.f("ix_refresh_tokens_session_id"), "refresh_tokens", ["session_id"])
    op.create_table(
        "email_tokens",
        _id(),
        _user(),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        _at("created_at", now=True),
        _at("expires_at"),
        _at("used_at", nullable=True),
        sa.CheckConstraint("purpose in ('verify-email')", "purpose"),
    )
    op.create_index(op.f("ix_email_tokens_user_id"), "email_tokens", ["user_id"])
    op.create_table(
        "teacher_requests",
        _id(),
        _user(),
        sa.Column("status", sa.String(), nullable=False, server_default="pending"),
        _at("created_at", now=True),
        _at("decided_at", nullable=True),
        sa.Column("decided_by", sa.Uuid(), sa.ForeignKey("users.id"), nullable=True),
        sa.CheckConstraint("status in ('pending', 'approved', 'rejected')", "status"),
        sa.CheckConstraint("(status = 'pending') = (decided_at is null)", "decided"),
    )
    op.create_index(
        "uq_teacher_requests_pending",
        "teacher_requests",
        ["user_id"],
        unique=True,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(op.f("ix_teacher_requests_user_id"), "teacher_requests", ["user_id"])
    op.create_index(op.f("ix_teacher_requests_status_id"), "teacher_requests", ["status", "id"])


def downgrade() -> None:
    for table in ("teacher_requests", "email_tokens", "refresh_tokens", "sessions", "user_roles", "users"):
        op.drop_table(table)
