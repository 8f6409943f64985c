"""What people are told: one notification and one mail an event, whatever happens to consumer and mail server."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import SecretStr
from sqlalchemy import select

from core import clock
from core.db import Database
from core.ids import new_id
from core.integrations.mail import Mail, MailUnavailable, SMTPMailer
from core.messaging import topology
from core.messaging.loop import ConsumerLoop
from core.messaging.relay import Relay
from core.security.tokens import VERIFY_EMAIL, Tokens
from core.settings import Settings, SMTPSettings
from deploy.local.stack import script
from domain.contracts.events import EnrollmentGranted, OrderPaid, TeacherGranted
from models.identity import EmailToken, User
from models.notification import Notification
from services import identity, notifications
from services.mailing import MailLoop
from services.notices import VERIFICATION
from services.outbox import emit
from tests.support.isolation import as_environment
from tests.support.mail import Mailbox
from tests.support.messaging import published, running
from tests.support.scenes import add_course, add_order, add_user
from tests.support.wait import until


@asynccontextmanager
async def consuming(settings: Settings, db: Database) -> AsyncIterator[None]:
    """Relay and consumer at work."""
    async with notifications.consumer(settings, db) as handler:
        consumer = ConsumerLoop(topology.SUBSCRIPTIONS["notifications"], handler, db, settings.rabbitmq)
        async with running(Relay(settings), consumer):
            yield


async def _rows(db: Database, user_id: UUID) -> Sequence[Notification]:
    async with db.read() as session:
        query = select(Notification).where(Notification.user_id == user_id).order_by(Notification.id)
        return (await session.scalars(query)).all()


async def _sent(db: Database, user_id: UUID, count: int) -> bool:
    rows = await _rows(db, user_id)
    return len(rows) == count and all(row.mail_sent_at for row in rows)


async def _teacher(db: Database) -> tuple[User, UUID]:
    """A user and the event that made them a teacher."""
    async with db.transaction() as session:
        user = await add_user(session)
        return user, await emit(session, TeacherGranted(user_id=user.id))


async def test_registration_mails_a_link_whose_token_verifies(queues: Settings, db: Database, mailbox: Mailbox) -> None:
    email, now = f"{new_id().hex}@example.com", clock.now()
    name = "You won: https://evil.example"
    async with db.transaction() as session:
        await identity.register(session, email=email, name=name, password_hash="h", now=now, ttl=timedelta(days=2))
        user_id = (await session.scalars(select(User.id).where(User.email == email))).one()
    async with consuming(queues, db):
        await until(lambda: _sent(db, user_id, 1))
    (mail,) = mailbox.to(email)
    assert mail["subject"] == "Confirm your e-mail address"
    assert mail["text"].startswith("Hello,\r\n\r\nSomebody, probably you,")
    assert "evil" not in str(mail)
    prefix = re.escape(f"{queues.api.public_url}/verify-email?token=")
    found = re.search(prefix + r"([\w.-]+)", mail["text"])
    assert found is not None
    assert found[0] in mail["html"]
    tokens = Tokens(queues.auth)
    async with db.transaction() as session:
        claims = tokens.read_email(VERIFY_EMAIL, found[1])
        assert await identity.verify_email(session, claims, now=now) == email
    (row,) = await _rows(db, user_id)
    assert not row.in_app
    assert row.data == {"token_id": str(claims.token_id), "rows": []}


async def test_a_purchase_makes_one_notification_with_a_receipt(
    queues: Settings, db: Database, mailbox: Mailbox
) -> None:
    async with db.transaction() as session:
        student = await add_user(session)
        courses = [
            await add_course(session, (await add_user(session)).id, title, price)
            for title, price in (("Fresh Bread", 4900), ("Slow Coffee", 1250))
        ]
        order = await add_order(session, student.id, *courses, granted=2, status="paid")
        paid = OrderPaid(order_id=order.id, student_id=student.id)
        ids = [await emit(session, paid, key=str(order.id)) for _ in range(2)]
        for course in courses:
            granted = EnrollmentGranted(
                enrollment_id=new_id(), course_id=course.id, student_id=student.id, source="order"
            )
            ids.append(await emit(session, granted))
    async with consuming(queues, db):
        await until(published(db, *set(ids)))
        await until(lambda: _sent(db, student.id, 1))
    (row,) = await _rows(db, student.id)
    assert (row.kind, row.subject, row.title) == ("order.paid", f"order/{order.id}", "Your receipt")
    assert row.data["rows"][:4] == [
        ["Fresh Bread", "49.00 USD"],
        ["Slow Coffee", "12.50 USD"],
        ["Total", "61.50 USD"],
        ["Order", str(order.id)],
    ]
    (mail,) = mailbox.to(student.email)
    assert "Fresh Bread: 49.00 USD\r\nSlow Coffee: 12.50 USD\r\nTotal: 61.50 USD\r\n" in mail["text"]
    assert ">61.50 USD</td>" in mail["html"]


async def test_a_mail_server_that_is_down_delays_the_mail_only(
    queues: Settings, db: Database, mailbox: Mailbox
) -> None:
    user, event_id = await _teacher(db)
    nobody_listens = queues.model_copy(update={"smtp": SMTPSettings(url=SecretStr("smtp://127.0.0.1:9"))})
    async with consuming(nobody_listens, db):
        await until(published(db, event_id))

        async def tried() -> bool:
            rows = await _rows(db, user.id)
            return bool(rows) and rows[0].mail_attempts > 0

        await until(tried)
    assert [(row.kind, row.mail_sent_at) for row in await _rows(db, user.id)] == [("teacher.granted", None)]
    assert mailbox.to(user.email) == []
    async with consuming(queues, db):
        await until(lambda: _sent(db, user.id, 1))
    assert len(mailbox.to(user.email)) == 1


class _Server:
    """A mail server that refuses one recipient for good and another for now, and keeps the rest."""

    def __init__(self, never: str, not_now: str) -> None:
        self._answers = {never: "550 5.1.1 no such mailbox", not_now: "451 4.3.2 come back later"}
        self.accepted: list[bytes] = []

    async def handle_RCPT(  # noqa: N802  (aiosmtpd's name)
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self._answers.get(address, "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.accepted.append(envelope.content)
        return "250 OK"


@asynccontextmanager
async def _serving(handler: _Server) -> AsyncIterator[SMTPSettings]:
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="test", enable_SMTPUTF8=True), "127.0.0.1", 0
    )
    async with server:
        yield SMTPSettings(url=SecretStr(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"))


async def test_a_refused_mail_is_given_up_and_a_deferred_one_is_not(queues: Settings, db: Database) -> None:
    (never, first), (not_now, second), (fine, third) = [await _teacher(db) for _ in range(3)]
    handler = _Server(never.email, not_now.email)
    async with _serving(handler) as smtp, consuming(queues.model_copy(update={"smtp": smtp}), db):
        await until(published(db, first, second, third))
        await until(lambda: _sent(db, fine.id, 1))

        async def settled() -> bool:
            (refused,), (deferred,) = await _rows(db, never.id), await _rows(db, not_now.id)
            return bool(refused.mail_refused_at) and deferred.mail_attempts > 1

        await until(settled)
    (refused,), (deferred,) = await _rows(db, never.id), await _rows(db, not_now.id)
    assert (refused.mail_due_at, refused.mail_sent_at, refused.mail_attempts) == (None, None, 1)
    assert (deferred.mail_refused_at, deferred.mail_sent_at) == (None, None)
    assert deferred.mail_due_at is not None
    (accepted,) = handler.accepted
    message = message_from_bytes(accepted, policy=policy.default)
    (row,) = await _rows(db, fine.id)
    assert message["Message-ID"] == f"<{row.id}@lyceum.example>"
    assert message["To"] == f"Ada Lovelace <{fine.email}>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


async def _due(db: Database, user: User, **columns: Any) -> UUID:
    """A mail to the user, the first that is sent."""
    values = {"kind": "teacher.granted", "data": {"rows": []}, "mail_due_at": clock.now() - timedelta(days=9)} | columns
    async with db.transaction() as session:
        row = Notification(
            user_id=user.id, event_id=new_id(), subject=f"user/{user.id}", title="Hi", body="Hello.", **values
        )
        session.add(row)
        await session.flush()
        return row.id


async def test_a_mail_put_off_is_tried_for_five_days(settings: Settings, db: Database) -> None:
    (early, _), (late, _) = [await _teacher(db) for _ in range(2)]
    await _due(db, early, mail_attempts=5000, created_at=clock.now() - timedelta(days=4))
    await _due(db, late, mail_attempts=5000, created_at=clock.now() - timedelta(days=6))
    nowhere = SMTPMailer(SMTPSettings(url=SecretStr("smtp://127.0.0.1:9")))
    await MailLoop(db, nowhere, Tokens(settings.auth), settings.api.public_url).send_due()
    (waiting,), (given_up,) = await _rows(db, early.id), await _rows(db, late.id)
    assert waiting.mail_due_at is not None
    assert timedelta(0) < waiting.mail_due_at - clock.now() < timedelta(minutes=5)
    assert (waiting.mail_refused_at, waiting.mail_attempts) == (None, 5001)
    assert (given_up.mail_due_at, given_up.mail_sent_at) == (None, None)
    assert given_up.mail_refused_at is not None


async def test_a_link_that_is_not_needed_any_more_is_neither_sent_nor_refused(settings: Settings, db: Database) -> None:
    async with db.transaction() as session:
        user = await add_user(session)
        now = clock.now()
        token = EmailToken(
            user_id=user.id, purpose=VERIFY_EMAIL, name="Ada", password_hash="h", expires_at=now, used_at=now
        )
        session.add(token)
        await session.flush()
    await _due(db, user, kind=VERIFICATION, data={"token_id": str(token.id), "rows": []})
    mails = MailLoop(db, SMTPMailer(settings.smtp), Tokens(settings.auth), settings.api.public_url)
    await mails.send_due()
    (row,) = await _rows(db, user.id)
    assert (row.mail_due_at, row.mail_sent_at, row.mail_refused_at) == (None, None, None)


class _Silent(_Server):
    """A mail server that never answers one command."""

    def __init__(self, command: str) -> None:
        super().__init__("", "")
        setattr(self, f"handle_{command}", self._never)

    async def _never(self, *_: object) -> None:
        await asyncio.get_running_loop().create_future()


_MAIL = Mail(new_id(), "Ada", "ada@example.com", "Hi", "text", "<p>html</p>")


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_mail_server_has_so_long_to_take_a_mail(command: str) -> None:
    async with _serving(_Silent(command)) as smtp, asyncio.timeout(10):
        with pytest.raises(MailUnavailable, match="TimeoutError"):
            await SMTPMailer(smtp, limit=0.2).send(_MAIL)


async def test_a_mail_is_sent_when_the_server_has_taken_it_whatever_comes_after() -> None:
    async with _serving(_Silent("QUIT")) as smtp, asyncio.timeout(10):
        await SMTPMailer(smtp).send(_MAIL)


async def test_two_processes_send_each_mail_once(queues: Settings, db: Database, mailbox: Mailbox) -> None:
    users = [await _teacher(db) for _ in range(12)]
    async with running(Relay(queues)):
        await until(published(db, *(event_id for _, event_id in users)))
    loops = [MailLoop(db, SMTPMailer(queues.smtp), Tokens(queues.auth), queues.api.public_url) for _ in range(2)]
    async with notifications.consumer(queues, db) as handler:
        consumer = ConsumerLoop(topology.SUBSCRIPTIONS["notifications"], handler, db, queues.rabbitmq)
        sending = [asyncio.create_task(loop.run()) for loop in loops]
        async with running(consumer):
            for user, _ in users:
                await until(partial(_sent, db, user.id, 1))
        for loop in loops:
            await loop.stop()
        await asyncio.gather(*sending)
    assert [len(mailbox.to(user.email)) for user, _ in users] == [1] * 12


@pytest.mark.timeout(300)
@pytest.mark.parametrize("failpoint", ["consumer.notifications.before_handle", "consumer.notifications.after_commit"])
async def test_killed_consumer_tells_once(
    queues: Settings, db: Database, mailbox: Mailbox, tmp_path: Path, failpoint: str
) -> None:
    (tmp_path / failpoint).touch()
    environment = os.environ | as_environment(queues.model_copy(update={"failpoints": str(tmp_path)}))
    user, event_id = await _teacher(db)
    async with running(Relay(queues)):
        await until(published(db, event_id))
    process = await asyncio.create_subprocess_exec(
        script("lyceum"), "consume", "notifications", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    assert len(await _rows(db, user.id)) == (1 if failpoint == "consumer.notifications.after_commit" else 0)
    process = await asyncio.create_subprocess_exec(
        script("lyceum"), "consume", "notifications", env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        # A mail that the killed one had just taken is nobody else's for a minute.
        await until(lambda: _sent(db, user.id, 1), timeout=100)
    finally:
        process.terminate()
    assert await asyncio.wait_for(process.wait(), 60) == 0
    assert len(mailbox.to(user.email)) == 1
