"""Sending mail by SMTP."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib

from core import clock
from core.settings import SMTPSettings
from domain.texts import one_line

SEND_LIMIT = 45.0
"""Seconds in which a mail server has to take a mail, from connecting to the answer after the text."""
_FAREWELL = 2.0


class MailRefused(Exception):
    """The mail server will never take this message (no such mailbox, for instance). `code` is its SMTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"SMTP {code}")
        self.code = code


class MailUnavailable(ConnectionError):
    """The mail server cannot be reached or takes nothing at the moment."""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message. Sent again under the same `id`, it has the same Message-ID, by which mailboxes tell duplicates."""

    id: UUID
    to_name: str
    to_address: str
    subject: str
    text: str
    html: str


class Mailer(Protocol):
    async def send(self, mail: Mail) -> None:
        """Returns once the mail server has taken it; raises `MailRefused` or `MailUnavailable`."""


class SMTPMailer:
    """A connection for each mail; STARTTLS is used where the server offers it, with its certificate checked."""

    def __init__(self, settings: SMTPSettings, *, limit: float = SEND_LIMIT) -> None:
        url = urlsplit(settings.url.get_secret_value())
        if url.scheme not in ("smtp", "smtps") or not url.hostname:
            raise ValueError("LYCEUM_SMTP__URL must be smtp://[user:password@]host:port or smtps://…")
        self._host, self._tls = url.hostname, url.scheme == "smtps"
        self._port = url.port or (465 if self._tls else 587)
        self._user = unquote(url.username) if url.username else None
        self._password = unquote(url.password) if url.password else None
        self._sender_name, self._sender = parseaddr(settings.sender)
        self._limit = limit

    async def send(self, mail: Mail) -> None:
        server = aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._tls,
            timeout=None,
        )
        try:
            async with asyncio.timeout(self._limit):
                await server.connect()
                await server.send_message(self._message(mail))
            with suppress(aiosmtplib.SMTPException):  # it has the mail, whatever it says now
                await server.quit(timeout=_FAREWELL)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _verdict(error.recipients[0].code) from None
        except aiosmtplib.SMTPResponseException as error:
            # Refused credentials are an operator's mistake, not this message's.
            refused = isinstance(error, aiosmtplib.SMTPDataError | aiosmtplib.SMTPSenderRefused)
            raise (_verdict(error.code) if refused else MailUnavailable(f"SMTP {error.code}")) from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise MailUnavailable(type(error).__name__) from error
        finally:
            server.close()

    def _message(self, mail: Mail) -> EmailMessage:
        user, _, domain = mail.to_address.rpartition("@")
        message = EmailMessage()
        message["From"] = Address(self._sender_name, addr_spec=self._sender)
        message["To"] = Address(one_line(mail.to_name), user, domain)
        message["Subject"] = one_line(mail.subject)
        message["Date"] = format_datetime(clock.now())
        message["Message-ID"] = f"<{mail.id}@{self._sender.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        message.add_alternative(mail.html, subtype="html")
        return message


def _verdict(code: int) -> Exception:
    return MailRefused(code) if code >= 500 else MailUnavailable(f"SMTP {code}")
