"""Is a server up? Each probe returns when it answers properly and raises otherwise."""

import asyncio
from collections.abc import Awaitable, Callable

from deploy.local.stack import Stack

Probe = Callable[[Stack], Awaitable[None]]
TIMEOUT = 3.0


class NotReady(Exception):
    """The server answered something else than "ready"."""


async def request(port: int, path: str, *, method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a plain HTTP/1.0 request to loopback. Raises OSError or TimeoutError without an answer."""
    async with asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    words = head.split(None, 2)
    if len(words) < 2 or not words[1].isdigit():
        raise NotReady("no HTTP answer")
    return int(words[1]), body


def http(port: str, path: str) -> Probe:
    """Ready when `path` answers 200."""

    async def probe(stack: Stack) -> None:
        status, body = await request(stack.ports[port], path)
        if status != 200:
            raise NotReady(f"{path} says {status} {body[:200].decode(errors='replace')}".strip())

    return probe


def tcp(port: str, say: bytes = b"", expect: bytes = b"") -> Probe:
    """Ready when the port accepts and, after `say`, answers something that starts with `expect`."""

    async def probe(stack: Stack) -> None:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", stack.ports[port])
            try:
                writer.write(say)
                if expect and not (answer := await reader.read(len(expect))).startswith(expect):
                    raise NotReady(f"answered {answer!r}")
            finally:
                writer.close()

    return probe
