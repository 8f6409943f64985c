"""Sends the mails of notifications, from the table: each once, again after a mail server was away."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core import clock, logs, runtime
from core.db import Database
from core.integrations.mail import SEND_LIMIT, Mail, Mailer, MailRefused, MailUnavailable
from core.messaging.failures import log_failure
from core.security.tokens import VERIFY_EMAIL, Tokens
from models.identity import EmailToken, User
from models.notification import Notification
from services.mails import render
from services.notices import VERIFICATION

_LEASE = timedelta(seconds=SEND_LIMIT + 15)
"""Longer than sending takes. A process that dies while sending leaves its mails to others after this."""
_BATCH = 8
_POLL = 2.0
"""Seconds between looks at the table when nobody wakes the loop: mails whose time has come, or of other processes."""
_DOUBLINGS = 8
"""A mail server that is away is asked again after 2 seconds, doubling to some 4 minutes."""
_PATIENCE = timedelta(days=5)
"""Age at which a mail that the server still puts off is given up, as mail servers do among themselves."""

Outcome = Literal["sent", "refused", "dropped"]
"""`dropped`: what it was about is over."""

MAILS = Counter("lyceum_mails_total", "Mails by outcome: sent, refused, dropped", ["kind", "outcome"])

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Due:
    """A mail to send now."""

    notification: Notification
    name: str
    address: str


async def claim(session: AsyncSession, limit: int) -> Sequence[Due]:
    """Takes mails that are due; they are nobody else's for the lease."""
    due = (
        select(Notification.id)
        .where(Notification.mail_due_at <= func.now())
        .order_by(Notification.mail_due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    taken = await session.execute(
        update(Notification)
        .where(Notification.id.in_(due.scalar_subquery()), User.id == Notification.user_id)
        .values(mail_due_at=func.now() + _LEASE, mail_attempts=Notification.mail_attempts + 1)
        .returning(Notification, User.name, User.email),
        execution_options={"populate_existing": True},
    )
    return [Due(*row) for row in taken]


async def settle(db: Database, notification_id: UUID, outcome: Outcome) -> None:
    """Notes that there is nothing to send any more."""
    stamp = "" if outcome == "dropped" else f", mail_{outcome}_at = now()"
    await db.fetch_row(
        f"update notifications set mail_due_at = null{stamp} where id = $1",  # noqa: S608  (constants)
        notification_id,
    )


async def postpone(session: AsyncSession, notification: Notification, delay: timedelta) -> None:
    """Makes it due again later, unless somebody else has tried it since."""
    mine = (Notification.id == notification.id) & (Notification.mail_attempts == notification.mail_attempts)
    await session.execute(update(Notification).where(mine).values(mail_due_at=func.now() + delay))


class MailLoop:
    """Sends what is due until it is stopped."""

    def __init__(self, db: Database, mailer: Mailer, tokens: Tokens, public_url: str) -> None:
        self._db = db
        self._mailer = mailer
        self._tokens = tokens
        self._public_url = public_url.rstrip("/")
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Says that a mail may be due."""
        self._woken.set()

    async def stop(self) -> None:
        """Ends `run` after the mails at hand."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                sent = await self.send_due()
            except Exception as error:  # PostgreSQL is away or a mail is broken: others must still be sent
                log_failure(log, "mails not sent", error)
                sent = 0
            if sent < _BATCH and not self._stopping:
                await runtime.wait(self._woken, _POLL)

    async def send_due(self) -> int:
        """Sends one batch; returns how many were due."""
        async with self._db.transaction() as session:
            batch = await claim(session, _BATCH)
        outcomes = await asyncio.gather(*map(self._send, batch), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(batch)

    async def _send(self, due: Due) -> None:
        notification = due.notification
        with logs.bound(notification_id=notification.id, kind=notification.kind):
            outcome: Outcome = "sent"
            try:
                mail = await self._mail(due)
                if mail is None:
                    outcome = "dropped"
                else:
                    await self._mailer.send(mail)
            except MailUnavailable as error:
                if clock.now() - notification.created_at < _PATIENCE:
                    delay = timedelta(seconds=2 ** min(notification.mail_attempts, _DOUBLINGS))
                    log.warning("mail server unavailable", detail=str(error), retry_in=delay.total_seconds())
                    async with self._db.transaction() as session:
                        await postpone(session, notification, delay)
                    return
                log.warning("mail given up", detail=str(error))
                outcome = "refused"
            except MailRefused as error:
                log.warning("mail refused", code=error.code)
                outcome = "refused"
            await settle(self._db, notification.id, outcome)
            MAILS.labels(notification.kind, outcome).inc()

    async def _mail(self, due: Due) -> Mail | None:
        """The mail, or None when what it was about is over."""
        notification = due.notification
        name = due.name
        action: Mapping[str, str] | None = None
        if notification.kind == VERIFICATION:
            name = ""  # whoever registered wrote it, and is not the owner of the address before the link is opened
            url = await self._verification_url(notification.data)
            if url is None:
                return None
            action = {"label": "Confirm this address", "url": url}
        parts = render(
            name=name,
            title=notification.title,
            body=notification.body,
            rows=notification.data["rows"],
            action=action,
        )
        return Mail(notification.id, name, due.address, notification.title, parts.text, parts.html)

    async def _verification_url(self, data: dict[str, Any]) -> str | None:
        # The token is made while sending: the table holds none.
        async with self._db.read() as session:
            token = await session.get(EmailToken, UUID(data["token_id"]))
        if token is None or token.used_at is not None:
            return None
        signed = self._tokens.email(VERIFY_EMAIL, token.user_id, token.id, token.expires_at)
        return f"{self._public_url}/verify-email?token={quote(signed)}"
