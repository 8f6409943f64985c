"""One's own notifications."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from api.deps import ReadTx, Tx, requires
from api.pagination import Paging, cut_page
from api.schemas.notifications import NotificationPage, NotificationRead, NotificationsRead
from core import clock
from domain.identity import Permission, Principal
from services import notifications

router = APIRouter(prefix="/me/notifications", tags=["notifications"])

_Reader = Annotated[Principal, requires(Permission.NOTIFICATION_READ)]


@router.get("")
async def list_notifications(
    principal: _Reader, session: ReadTx, paging: Paging, unread: bool = False
) -> NotificationPage:
    """What you were told, newest first; with `unread=true` only what you have not read."""
    rows = await notifications.page(
        session, principal.user_id, unread=unread, after=paging.after(UUID), limit=paging.limit
    )
    shown, cursor = cut_page(rows, paging.limit, lambda row: (row.id,))
    return NotificationPage(
        items=[NotificationRead.model_validate(row) for row in shown],
        next_cursor=cursor,
        unread=await notifications.unread_count(session, principal.user_id),
    )


@router.post("/read-all")
async def read_all(principal: _Reader, session: Tx) -> NotificationsRead:
    """Marks all as read."""
    return NotificationsRead(read=await notifications.mark_all_read(session, principal.user_id, clock.now()))


@router.post("/{notification_id}/read")
async def read_one(notification_id: UUID, principal: _Reader, session: Tx) -> NotificationRead:
    """Marks one as read; a second time changes nothing."""
    row = await notifications.mark_read(session, principal.user_id, notification_id, clock.now())
    return NotificationRead.model_validate(row)
