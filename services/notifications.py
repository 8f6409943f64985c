"""What a person is told: the list in the app, and the consumer `notifications` that fills it from events.

A notification is a row made in the transaction that notes the event as handled, so there is exactly one. Its mail is
sent from that row by `services.mailing`, so a mail server that is down delays mails and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from core.ids import new_id
from core.integrations.mail import SMTPMailer
from core.messaging.consumer import Transactional
from core.messaging.envelope import Envelope
from core.security.tokens import Tokens
from core.settings import Settings
from domain.errors import NotFound
from models.notification import Notification
from services.mailing import MailLoop
from services.notices import compose
from services.paging import keyset


class NotificationNotFound(NotFound):
    title = "No such notification"


async def page(
    session: AsyncSession, user_id: UUID, *, unread: bool, after: tuple[UUID] | None, limit: int
) -> Sequence[Notification]:
    """The person's notifications, newest first; up to `limit` + 1 rows."""
    query = select(Notification).where(Notification.user_id == user_id, Notification.in_app)
    if unread:
        query = query.where(Notification.read_at.is_(None))
    return (await session.scalars(keyset(query, Notification.id, after=after, limit=limit))).all()


async def unread_count(session: AsyncSession, user_id: UUID) -> int:
    """How many the person has not read."""
    count = select(func.count()).where(
        Notification.user_id == user_id, Notification.in_app, Notification.read_at.is_(None)
    )
    return (await session.scalars(count)).one()


async def mark_read(session: AsyncSession, user_id: UUID, notification_id: UUID, now: datetime) -> Notification:
    """Marks one of the person's own as read; the first time counts. Raises `NotificationNotFound`."""
    statement = (
        update(Notification)
        .where(Notification.id == notification_id, Notification.user_id == user_id, Notification.in_app)
        .values(read_at=func.coalesce(Notification.read_at, now))
        .returning(Notification)
    )
    notification = (await session.scalars(statement)).one_or_none()
    if notification is None:
        raise NotificationNotFound(f"You have no notification {notification_id}.")
    return notification


async def mark_all_read(session: AsyncSession, user_id: UUID, now: datetime) -> int:
    """Marks all of the person's as read and returns how many were not."""
    statement = (
        update(Notification)
        .where(Notification.user_id == user_id, Notification.in_app, Notification.read_at.is_(None))
        .values(read_at=now)
        .returning(Notification.id)
    )
    return len((await session.scalars(statement)).all())


async def notify(session: AsyncSession, envelope: Envelope) -> bool:
    """Turns an event into a notification with a mail that is due now. False when there is nothing to tell."""
    notice = await compose(session, envelope.event)
    if notice is None:
        return False
    statement = insert(Notification).values(
        id=new_id(),
        user_id=notice.user_id,
        event_id=envelope.id,
        kind=notice.kind,
        subject=envelope.subject,
        title=notice.title,
        body="\n\n".join(notice.paragraphs),
        data={**notice.data, "rows": [list(row) for row in notice.rows]},
        in_app=notice.in_app,
        mail_due_at=func.now(),
    )
    # A replay that is forced meets the row of the first time.
    await session.execute(statement.on_conflict_do_nothing())
    return True


async def _handle(mails: MailLoop, session: AsyncSession, envelope: Envelope) -> None:
    if await notify(session, envelope):
        mails.wake()


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[Transactional]:
    mails = MailLoop(db, SMTPMailer(settings.smtp), Tokens(settings.auth), settings.api.public_url)
    sending = asyncio.create_task(mails.run())
    try:
        yield Transactional(partial(_handle, mails))
    finally:
        await mails.stop()
        await sending
