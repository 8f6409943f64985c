"""A load generator that costs little: prepared requests on a few connections, each sending when it has its answer."""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

_PATIENCE = 60.0
"""Seconds for the last answers of a round."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one round got done."""

    answers: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds


def request(method: str, path: str, headers: Mapping[str, str] | None = None, body: object = None) -> bytes:
    """An HTTP/1.1 request, ready to send; `body` goes as JSON."""
    content = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "bench", **(headers or {})}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


class _Connection(asyncio.Protocol):
    """Sends the next request when the answer before is complete, until the deadline or the end of the requests."""

    def __init__(self, requests: Iterator[bytes], status: int) -> None:
        self._requests, self._status = requests, status
        self._head = b""
        self._missing: int | None = None
        self.answers = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by descent

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def start(self, deadline: float) -> None:
        """The first request goes out whatever the time: a round without an answer measures nothing."""
        self._deadline = deadline
        self._send(next(self._requests, None))

    def _send(self, following: bytes | None) -> None:
        if following is not None:
            self._transport.write(following)
        else:
            self.done.set_result(None)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._missing is None:
            self._head += data
            head, complete, body = self._head.partition(b"\r\n\r\n")
            if not complete:
                return
            length = _LENGTH.search(head)
            if int(head[9:12]) != self._status or length is None:
                self.done.set_exception(AssertionError(f"answered {self._head[:600]!r}"))
                self._transport.close()
                return
            self._missing = int(length[1]) - len(body)
        else:
            self._missing -= len(data)
        if self._missing <= 0:
            self._head, self._missing = b"", None
            self.answers += 1
            self._send(next(self._requests, None) if time.perf_counter() < self._deadline else None)


async def drive(
    port: int, requests: Iterator[bytes], *, seconds: float, connections: int = 16, status: int = 200
) -> Load:
    """Sends `requests` for `seconds`, or until they are used up, once every connection is open.

    Any answer but `status` fails the round, and so does having had nothing to send.
    """
    loop = asyncio.get_running_loop()
    opened = await asyncio.gather(
        *(loop.create_connection(lambda: _Connection(requests, status), "127.0.0.1", port) for _ in range(connections))
    )
    started = time.perf_counter()
    for _, connection in opened:
        connection.start(started + seconds)
    async with asyncio.timeout(seconds + _PATIENCE):
        await asyncio.gather(*(connection.done for _, connection in opened))
    load = Load(sum(connection.answers for _, connection in opened), time.perf_counter() - started)
    assert load.answers, "no requests were left to send"
    return load


async def fetch(port: int, request: bytes) -> bytes:
    """The body of one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None
        assert head[9:12] == b"200", head
        return await reader.readexactly(int(length[1]))
    finally:
        writer.close()
