"""What operators see of the messaging processes: health pages, gauges, traces."""

import asyncio
import gzip
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span
from prometheus_client import REGISTRY
from pydantic import SecretStr
from sqlalchemy import delete, insert
from yarl import URL

from core import clock, telemetry
from core.db import Database
from core.ids import new_id
from core.messaging import broker, topology
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.messaging.loop import ConsumerLoop
from core.messaging.monitor import observe_database, observe_queues
from core.messaging.relay import Relay
from core.messaging.store import session
from core.settings import Settings
from deploy.local.stack import script
from domain.contracts.events import CourseUpdated
from models.process import Process
from services.outbox import emit
from tests.support.isolation import as_environment
from tests.support.messaging import published, running
from tests.support.ports import free_port
from tests.support.wait import until
from workflows import starter


@pytest.mark.parametrize(
    ("away", "arguments"),
    [
        ("opensearch", ["search", "reindex"]),
        ("database", ["search", "reindex"]),
        ("database", ["events", "replay", "--from-seq", "1"]),
        ("rabbitmq", ["events", "replay", "--from-seq", "1"]),
    ],
)
async def test_a_command_says_in_one_line_that_a_server_is_away(
    settings: Settings, away: str, arguments: list[str]
) -> None:
    section = getattr(settings, away)
    url = URL(section.url.get_secret_value()).with_host("127.0.0.1").with_port(free_port())
    nowhere = settings.model_copy(update={away: section.model_copy(update={"url": SecretStr(str(url))})})
    process = await asyncio.create_subprocess_exec(
        script("lyceum"), *arguments, env=os.environ | as_environment(nowhere), stdout=DEVNULL, stderr=PIPE
    )
    _, printed = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    (line,) = printed.decode().splitlines()
    assert line.startswith("A server that this needs does not answer. ")
    assert url.password is None or url.password not in line


def _gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_a_gauge_shows_how_many_processes_are_stuck(settings: Settings, db: Database) -> None:
    async with db.transaction() as transaction:
        for number in range(3):
            stuck = {"stuck_since": clock.now()} if number else {}
            await transaction.execute(
                insert(Process).values(
                    id=f"test-{new_id()}", kind="test", subject_id=new_id(), state="waiting", **stuck
                )
            )

    async def counted() -> bool:
        return _gauge("lyceum_processes_stuck", kind="test") == 2

    async with starter.consumer(settings, db):
        await until(counted)


async def test_gauges_show_what_waits(queues: Settings, db: Database) -> None:
    async with running(Relay(queues)):
        async with db.transaction() as transaction:
            first = await emit(transaction, CourseUpdated(course_id=new_id()))
        await until(published(db, first))
    async with db.transaction() as transaction:
        await emit(transaction, CourseUpdated(course_id=new_id()))
    async with session(queues.database, "test") as connection:
        await observe_database(connection)
    async with db.transaction() as transaction:
        await transaction.execute(delete(Process).where(Process.kind == "test"))
    lag, rows = _gauge("lyceum_outbox_lag_seconds"), _gauge("lyceum_outbox_rows")
    assert rows == 1
    assert lag is not None
    assert lag > 0
    async with broker.connect(queues.rabbitmq, "test") as connection:
        await observe_queues(connection, queues.rabbitmq)
    queue = topology.queue_name(queues.rabbitmq, "search")
    assert _gauge("lyceum_queue_depth", queue=queue) == 1
    assert _gauge("lyceum_queue_consumers", queue=queue) == 0


@asynccontextmanager
async def process(settings: Settings, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`lyceum ARGUMENTS` with its health page, and that page's address."""
    port = free_port()
    served = settings.model_copy(update={"telemetry": settings.telemetry.model_copy(update={"metrics_port": port})})
    started = await asyncio.create_subprocess_exec(
        script("lyceum"), *arguments, env=os.environ | as_environment(served), stdout=asyncio.subprocess.DEVNULL
    )
    try:
        yield started, f"http://127.0.0.1:{port}"
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


@pytest.mark.parametrize("arguments", [("relay",), ("consume", "notifications"), ("consume", "search")])
async def test_a_process_tells_its_health_and_ends_on_sigterm(queues: Settings, arguments: tuple[str, ...]) -> None:
    async with process(queues, *arguments) as (started, url), httpx2.AsyncClient(base_url=url) as http:

        async def ready() -> bool:
            try:
                return (await http.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(ready, timeout=60)
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.get("/readyz")).json() == {"status": "ok", "failing": {}}
        metrics = (await http.get("/metrics")).text
        assert ("lyceum_outbox_lag_seconds" in metrics) is (arguments == ("relay",))
        assert "process_resident_memory_bytes" in metrics
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), 30) == 0


async def test_a_process_without_its_broker_is_alive_and_not_ready(queues: Settings) -> None:
    nowhere = queues.rabbitmq.model_copy(update={"url": SecretStr("amqp://127.0.0.1:9/")})
    settings = queues.model_copy(update={"rabbitmq": nowhere})
    async with process(settings, "relay") as (started, url), httpx2.AsyncClient(base_url=url) as http:

        async def answered() -> httpx2.Response | None:
            try:
                return await http.get("/readyz")
            except httpx2.TransportError:
                return None

        answer = await until(answered, timeout=60)
        assert answer is not None
        assert answer.status_code == 503
        assert answer.json() == {"status": "unavailable", "failing": {"relay": "ConnectionError"}}
        assert (await http.get("/healthz")).status_code == 200
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), 30) == 0


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


async def test_one_trace_reaches_from_the_request_to_the_handler(
    queues: Settings, db: Database, spans: InMemorySpanExporter
) -> None:
    inside: list[str | None] = []

    async def note(envelope: Envelope) -> None:
        inside.append(telemetry.current_traceparent())

    consumer = ConsumerLoop(topology.SUBSCRIPTIONS["search"], External(note), db, queues.rabbitmq)
    course = new_id()
    with telemetry.span("request") as request:
        async with db.transaction() as transaction:
            event_id = await emit(transaction, CourseUpdated(course_id=course))
    async with running(Relay(queues), consumer):

        async def handled() -> bool:
            return any(span.name == "handle course.updated.v1" for span in _of(spans, request))

        await until(published(db, event_id))
        await until(handled)
    by_name = {span.name: span for span in _of(spans, request)}
    assert set(by_name) == {"request", "publish course.updated.v1", "handle course.updated.v1"}
    handling = by_name["handle course.updated.v1"].context
    assert f"00-{handling.trace_id:032x}-{handling.span_id:016x}-{handling.trace_flags:02x}" in inside
    for name in ("publish course.updated.v1", "handle course.updated.v1"):
        parent = by_name[name].parent
        assert parent is not None
        assert parent.span_id == request.get_span_context().span_id


def _of(spans: InMemorySpanExporter, root: Span) -> list[ReadableSpan]:
    """The finished spans of the root's trace."""
    return [span for span in spans.get_finished_spans() if span.context.trace_id == root.get_span_context().trace_id]


def test_a_failed_span_names_the_error_and_quotes_nothing(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match=r"ada@example\.com"), telemetry.span("work"):
        raise ValueError("ada@example.com")
    (span,) = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description, span.events) == (False, "ValueError", ())


_EXPORTS = """
import sys
from opentelemetry.trace import SpanKind
from core import telemetry
from core.settings import Settings
settings = Settings(_env_file=None)
settings.telemetry.otlp_endpoint = sys.argv[1]
telemetry.setup(settings, "api")
with telemetry.span("lone query", kind=SpanKind.CLIENT):
    pass
with telemetry.span("request"), telemetry.span("query", kind=SpanKind.CLIENT):
    print(telemetry.current_traceparent())
"""


async def test_traces_go_to_the_collector_that_is_configured() -> None:
    received: list[tuple[str, str, bytes]] = []

    async def collect(request: web.Request) -> web.Response:
        received.append((request.path, request.headers["Content-Type"], await request.read()))
        return web.Response(content_type="application/x-protobuf")

    collector = web.AppRunner(_collector(collect))
    await collector.setup()
    try:
        await web.TCPSite(collector, "127.0.0.1", 0).start()
        port = collector.addresses[0][1]
        exporting = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _EXPORTS, f"http://127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await asyncio.wait_for(exporting.communicate(), 60)
    finally:
        await collector.cleanup()
    ((path, content_type, body),) = received
    assert (path, content_type) == ("/v1/traces", "application/x-protobuf")
    _, trace_id, span_id, _ = printed.decode().strip().split("-")
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    assert bytes.fromhex(trace_id) in body
    assert bytes.fromhex(span_id) in body
    assert b"lyceum-api" in body
    assert b"request" in body
    assert b"lone" not in body


def _collector(handler: Callable[[web.Request], Awaitable[web.Response]]) -> web.Application:
    app = web.Application()
    app.add_routes([web.post("/v1/traces", handler)])
    return app
