"""Files on their way to S3, there, and on their way out."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, Timestamped


class Upload(Identified, Timestamped, Base):
    """One file of one user. The row is older than the stored bytes and outlives them, so none is lost track of."""

    __tablename__ = "uploads"

    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    purpose: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    """Bytes, as declared; verified when the status is completed, as are the type and the hash."""
    sha256: Mapped[str] = mapped_column(CHAR(64))
    status: Mapped[str] = mapped_column(server_default="pending")
    multipart_id: Mapped[str | None]
    """S3's name for the multipart upload while parts arrive."""
    rejection: Mapped[dict[str, Any] | None]
    """Why it was rejected: field, message, code."""
    expires_at: Mapped[datetime | None]
    """When it is removed unless something happens; null while a lesson uses it."""

    __table_args__ = (
        CheckConstraint("status in ('pending', 'verifying', 'completed', 'rejected', 'deleting')", name="status"),
        CheckConstraint("purpose in ('attachment', 'video')", name="purpose"),
        CheckConstraint("size > 0", name="size"),
        Index("ix_uploads_owner_id", "owner_id"),
        Index("ix_uploads_removable", "expires_at", postgresql_where=text("expires_at is not null")),
    )
