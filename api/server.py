"""uvicorn, with the two limits it lacks: how long and how large the headers of a request may be on their way in."""

import asyncio
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from core.settings import APISettings

BACKLOG = 2048
HEADER_TIMEOUT = 10.0
"""Seconds. The body and the answer are under the request timeout of `api.middleware`."""
KEEP_ALIVE = 30
GRACE = 20

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Ends connections whose headers trickle in or never end; uvicorn would collect them without bound."""

    max_header = 16_384
    header_timeout = HEADER_TIMEOUT
    _received = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_complete()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        self._headers_are_complete()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Looked at after parsing: one read may hold complete headers and a large part of the body.
        if self._deadline is not None:
            self._received += len(data)
            if self._received > self.max_header:
                self._refuse(_TOO_LARGE)

    def _expect_headers(self) -> None:
        self._headers_are_complete()
        self._deadline = self.loop.call_later(self.header_timeout, self._refuse, _TOO_SLOW)

    def _headers_are_complete(self) -> None:
        self._received = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, answer: bytes) -> None:
        self._headers_are_complete()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def configuration(app: FastAPI, settings: APISettings, **changes: Any) -> uvicorn.Config:
    """How uvicorn serves `app`; `changes` replace single options."""
    protocol = type("Protocol", (GuardedProtocol,), {"max_header": settings.max_header * 2})
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "loop": "uvloop",
        "http": protocol,
        "ws": "none",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": GRACE,
    }
    return uvicorn.Config(app, **(options | changes))
