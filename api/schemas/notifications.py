"""What a person was told."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from api.pagination import Page
from api.schemas.base import ResponseModel


class NotificationRead(ResponseModel):
    """`subject` is what it is about (`order/<id>`), `data` its ids and amounts for programs."""

    id: UUID
    kind: str = Field(examples=["order.paid"])
    subject: str
    title: str
    body: str
    data: dict[str, Any]
    created_at: datetime
    read_at: datetime | None


class NotificationPage(Page[NotificationRead]):
    """Newest first. `unread` counts all unread ones, not only this page's."""

    unread: int


class NotificationsRead(ResponseModel):
    """How many became read."""

    read: int
