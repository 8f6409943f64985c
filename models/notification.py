"""What the platform has told a person, in the app and by mail."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified


class Notification(Identified, Base):
    """One message to one person, made once per event.

    `mail_due_at` is when a mail is (next) to be sent, null when there is none to send; whoever sends it moves it
    ahead first, which keeps others off. Rows that are not `in_app` exist only as mail (a verification link).
    """

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("event_id", "user_id"),
        Index("ix_notifications_user_id_id", "user_id", "id"),
        Index("ix_notifications_mail_due_at", "mail_due_at", postgresql_where=text("mail_due_at is not null")),
        Index(
            "ix_notifications_unread",
            "user_id",
            postgresql_where=text("in_app and read_at is null"),
        ),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    event_id: Mapped[UUID]
    kind: Mapped[str]
    subject: Mapped[str]
    title: Mapped[str]
    body: Mapped[str]
    data: Mapped[dict[str, Any]]
    in_app: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    read_at: Mapped[datetime | None]
    mail_due_at: Mapped[datetime | None]
    mail_attempts: Mapped[int] = mapped_column(server_default="0")
    mail_sent_at: Mapped[datetime | None]
    mail_refused_at: Mapped[datetime | None]
    """When the mail server said that it will never take it, or had put it off for five days."""
