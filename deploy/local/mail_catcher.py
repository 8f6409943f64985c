"""Catches every mail the platform sends: SMTP in, a page and `GET /api/messages?to=ADDRESS` out. Nothing leaves."""

import asyncio
import html
import json
import os
import re
from dataclasses import asdict, dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import getaddresses
from pathlib import Path

import uvicorn
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mail</title>
<meta http-equiv="refresh" content="5"><style>body{{font:16px/1.5 system-ui;margin:2rem auto;max-width:50rem}}
article{{border:1px solid #ccc;border-radius:.5rem;padding:1rem;margin:1rem 0}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere}}</style>
<h1>Caught mail</h1>{messages}</html>"""
_HTML_LINK = ' · <a href="/messages/{id}">formatted</a>'
# Mail is written by strangers: it may look like something, but run, load and send nothing.
_SEALED = {"Content-Security-Policy": "sandbox allow-popups; default-src 'none'; style-src 'unsafe-inline'"}


@dataclass(frozen=True, slots=True)
class Message:
    """One caught mail; `to` are the envelope's recipients, lower-cased."""

    id: int
    sender: str
    to: list[str]
    subject: str
    text: str
    html: str

    def public(self) -> dict[str, object]:
        """The API's shape."""
        return {
            "id": self.id,
            "from": self.sender,
            "to": ", ".join(self.to),
            "subject": self.subject,
            "text": self.text,
            "html": self.html,
        }


class Mailbox:
    """All messages, oldest first, kept in a file of one JSON object a line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("}\n")]  # a kill may have torn the last one
        if whole != lines:
            path.write_text("".join(whole), encoding="utf-8")
        self._messages = [Message(**json.loads(line)) for line in whole]

    def add(self, raw: bytes, recipients: list[str]) -> Message:
        """Parses and keeps a message."""
        parsed = message_from_bytes(raw, policy=policy.default)
        message = Message(
            id=len(self._messages) + 1,
            sender=", ".join(address for _, address in getaddresses([str(parsed.get("From", ""))])),
            to=[recipient.lower() for recipient in recipients],
            subject=str(parsed.get("Subject", "")),
            text=_part(parsed, "plain"),
            html=_part(parsed, "html"),
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(message)) + "\n")
        self._messages.append(message)
        return message

    def find(self, to: str = "") -> list[Message]:
        """Messages to `to` (all when empty), oldest first."""
        return [message for message in self._messages if not to or to.lower() in message.to]

    def clear(self) -> None:
        self._path.unlink(missing_ok=True)
        self._messages.clear()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """aiosmtpd's hook."""
        content = envelope.original_content or b""
        self.add(content, [str(recipient) for recipient in envelope.rcpt_tos])
        return "250 OK"


def _part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    return str(body.get_content()) if body else ""


def _with_links(escaped: str) -> str:
    return re.sub(r"https?://[^\s<]+", r'<a href="\g<0>">\g<0></a>', escaped)


def web(mailbox: Mailbox) -> Starlette:
    """The page and the API over `mailbox`."""

    async def messages(request: Request) -> Response:
        found = mailbox.find(request.query_params.get("to", ""))
        return JSONResponse([message.public() for message in found])

    async def clear(request: Request) -> Response:
        mailbox.clear()
        return Response(status_code=204)

    async def page(request: Request) -> Response:
        rendered = [
            f"<article><b>{html.escape(m.subject)}</b><br>{html.escape(m.sender)} → {html.escape(', '.join(m.to))}"
            f"{_HTML_LINK.format(id=m.id) if m.html else ''}"
            f"<pre>{_with_links(html.escape(m.text))}</pre></article>"
            for m in reversed(mailbox.find(request.query_params.get("to", "")))
        ]
        return HTMLResponse(_PAGE.format(messages="".join(rendered) or "<p>Nothing yet.</p>"))

    async def formatted(request: Request) -> Response:
        found = [message for message in mailbox.find() if message.id == request.path_params["id"]]
        return HTMLResponse(found[0].html, headers=_SEALED) if found else PlainTextResponse("No such mail.", 404)

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/messages/{id:int}", formatted),
            Route("/healthz", health),
            Route("/api/messages", messages, methods=["GET"]),
            Route("/api/messages", clear, methods=["DELETE"]),
        ]
    )


async def serve(smtp_port: int, http_port: int, data: Path) -> None:
    """Runs both servers on loopback until told to stop."""
    mailbox = Mailbox(data / "messages.jsonl")
    loop = asyncio.get_running_loop()
    smtp = await loop.create_server(
        lambda: SMTP(mailbox, hostname="localhost", enable_SMTPUTF8=True, loop=loop), "127.0.0.1", smtp_port
    )
    try:
        config = uvicorn.Config(web(mailbox), host="127.0.0.1", port=http_port, log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()
    finally:
        smtp.close()
        await smtp.wait_closed()


def main() -> None:
    environ = os.environ
    asyncio.run(
        serve(
            int(environ["LYCEUM_MAIL_SMTP_PORT"]), int(environ["LYCEUM_MAIL_PORT"]), Path(environ["LYCEUM_MAIL_DATA"])
        )
    )


if __name__ == "__main__":
    main()
