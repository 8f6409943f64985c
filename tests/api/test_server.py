"""What the HTTP server itself does with hostile or unlucky connections; raw sockets, no client library between."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvicorn

from api.app import create_app
from api.server import GuardedProtocol, configuration
from core.settings import Settings
from tests.support.wait import until

Exchange = Callable[..., Awaitable[bytes]]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module")
async def connect(settings: Settings) -> AsyncIterator[Connect]:
    """Opens connections to a real server on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = configuration(create_app(settings), settings.api, timeout_graceful_shutdown=1)
    assert isinstance(config.http, type)
    assert issubclass(config.http, GuardedProtocol)
    config.http.header_timeout = 0.3
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))

    async def started() -> bool:
        return server.started

    await until(started)

    async def open_connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*listener.getsockname())

    yield open_connection
    server.should_exit = True
    await serving


@pytest.fixture
def exchange(connect: Connect) -> Exchange:
    """Sends the parts and reads until the server closes."""

    async def send(*parts: bytes) -> bytes:
        reader, writer = await connect()
        for part in parts:
            writer.write(part)
            await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer

    return send


async def test_a_request_is_answered_without_naming_the_server(exchange: Exchange) -> None:
    answer = await exchange(GET + b"connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"status":"ok"}')
    assert b"server:" not in answer.lower()


async def test_headers_that_never_end_are_cut_off(exchange: Exchange, settings: Settings) -> None:
    answer = await exchange(GET, b"x-endless: " + b"y" * (settings.api.max_header * 2 + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_many_small_headers_are_cut_off_too(exchange: Exchange, settings: Settings) -> None:
    answer = await exchange(GET, b"x: y\r\n" * (settings.api.max_header * 2 // 6 + 1))
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("parts", [(), (GET,), (b"G",)])
async def test_a_connection_that_does_not_finish_its_headers_is_closed(
    exchange: Exchange, parts: tuple[bytes, ...]
) -> None:
    assert (await exchange(*parts)).startswith(b"HTTP/1.1 408 ")


async def test_a_second_request_on_a_connection_has_the_same_limits(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(GET + b"\r\n")
    assert b"200 OK" in await reader.readuntil(b'{"status":"ok"}')
    writer.write(GET)
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_an_idle_connection_between_requests_is_kept_longer(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(GET + b"\r\n")
    await reader.readuntil(b'{"status":"ok"}')
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await reader.read(1)
    writer.write(GET + b"\r\n")
    assert b"200 OK" in await reader.readuntil(b'{"status":"ok"}')
    writer.close()


async def test_a_large_body_in_the_same_packet_as_its_headers_passes(exchange: Exchange) -> None:
    body = b'{"email":"a@b.example","password":"' + b"x" * 60_000 + b'"}'
    head = b"POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    answer = await exchange(head + f"content-length: {len(body)}\r\n\r\n".encode() + body)
    assert answer.startswith(b"HTTP/1.1 422 ")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    ],
)
async def test_ambiguous_framing_is_refused(exchange: Exchange, request_: bytes) -> None:
    assert (await exchange(request_)).startswith(b"HTTP/1.1 400 ")
