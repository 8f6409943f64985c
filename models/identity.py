"""Accounts: users and their roles, sessions with rotating refresh tokens, e-mailed tokens, requests to teach."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.identity import Role
from models.base import Base, Identified, Timestamped

_ROLES = ", ".join(f"'{role}'" for role in Role)


class User(Identified, Timestamped, Base):
    """`email` is stored lower-cased. Suspended users cannot sign in and their sessions are dead."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("email = lower(email) and length(email) <= 254", "email"),
        CheckConstraint("status in ('active', 'suspended')", "status"),
    )

    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    password_hash: Mapped[str]
    email_verified_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(server_default="active")


class UserRole(Base):
    __tablename__ = "user_roles"
    __table_args__ = (CheckConstraint(f"role in ({_ROLES})", "role"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="cascade"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    granted_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Session(Identified, Base):
    """One sign-in. It ends by logout, by a refresh token used twice, or at `expires_at`."""

    __tablename__ = "sessions"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="cascade"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class RefreshToken(Identified, Base):
    """A link in a session's chain: `used_at` is set when the next one is handed out."""

    __tablename__ = "refresh_tokens"

    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="cascade"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    used_at: Mapped[datetime | None]


class EmailToken(Identified, Base):
    """What a mailed link stands for. It keeps the name and password of the registration it confirms: whoever else
    registered the same unverified address does not get in by somebody's click on another mail."""

    __tablename__ = "email_tokens"
    __table_args__ = (CheckConstraint("purpose in ('verify-email')", "purpose"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="cascade"), index=True)
    purpose: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class TeacherRequest(Identified, Base):
    """A user's wish to teach; one open request per user."""

    __tablename__ = "teacher_requests"
    __table_args__ = (
        CheckConstraint("status in ('pending', 'approved', 'rejected')", "status"),
        CheckConstraint("(status = 'pending') = (decided_at is null)", "decided"),
        Index("uq_teacher_requests_pending", "user_id", unique=True, postgresql_where=text("status = 'pending'")),
        Index(None, "status", "id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="cascade"), index=True)
    status: Mapped[str] = mapped_column(server_default="pending")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
