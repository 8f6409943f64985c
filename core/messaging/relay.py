"""The relay: publishes the outbox to RabbitMQ (`lyceum relay`).

Read a batch, publish it and wait for the broker's confirms, mark it published. A relay that dies in between leaves
rows unmarked; the next one publishes them again under the same ids and consumers skip what they have handled.

Events of one subject are published one after the other, each after the confirm of the one before; subjects hash to
partitions, and one relay at a time owns a partition (`core.messaging.partitions`). Any number of relays may run.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractExchange
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge

from core import failpoints, health, logs, runtime, telemetry
from core.messaging import broker, monitor, topology
from core.messaging.envelope import CONTENT_TYPE, encode
from core.messaging.failures import log_failure
from core.messaging.store import OutboxStore, session
from core.settings import Settings, get_settings

_BATCH = 500
_REBALANCE = 2.0
"""Seconds between looks at how many relays there are; also how long a lost notification can delay an event."""
_PRUNE = 600.0
_POLL_MIN, _POLL_MAX = 0.01, 0.25
_LANES = 64
"""Subjects published side by side; more gains nothing over one connection."""

RELAY_PARTITIONS = Gauge("lyceum_relay_partitions", "Outbox partitions this relay publishes")
RELAY_FAILURES = Counter("lyceum_relay_failures_total", "Times the relay lost PostgreSQL or RabbitMQ", ["error"])
EVENTS_PUBLISHED = Counter("lyceum_events_published_total", "Events the broker confirmed", ["type"])

log = logs.get_logger(__name__)


class Relay:
    """One relay process. `run` ends when its stop event is set, after the batch at hand."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ready = False

    async def check(self) -> None:
        """Raises while PostgreSQL or RabbitMQ is out of reach."""
        if not self._ready:
            raise ConnectionError("the relay is reconnecting")

    async def run(self, stop: asyncio.Event) -> None:
        await runtime.keep(lambda: self._connected(stop), stop, self._lost)

    def _lost(self, error: Exception, delay: float) -> None:
        self._ready = False
        RELAY_PARTITIONS.set(0)
        RELAY_FAILURES.labels(type(error).__name__).inc()
        log_failure(log, "relay lost its connections", error, retry_in=delay)

    async def _connected(self, stop: asyncio.Event) -> None:
        settings = self._settings
        async with (
            broker.connect(settings.rabbitmq, "relay") as connection,
            session(settings.database, "relay") as database,
        ):
            channel = await connection.channel(publisher_confirms=True)
            exchange = await topology.declare_all(channel, settings.rabbitmq)
            store = OutboxStore(database)
            await store.join()
            self._ready = True
            log.info("relay connected")
            pump = _Pump(store, exchange, settings)
            stopping = asyncio.create_task(runtime.when(stop, store.wake))
            try:
                while not stop.is_set():
                    if connection.is_closed or channel.is_closed:
                        raise ConnectionError("RabbitMQ closed the connection")
                    await pump.turn()
            finally:
                stopping.cancel()


class _Pump:
    """What one pair of connections does again and again."""

    def __init__(self, store: OutboxStore, exchange: AbstractExchange, settings: Settings) -> None:
        self._store = store
        self._exchange = exchange
        self._retention = settings.platform.outbox_retention_days
        self._rebalance_at = self._prune_at = 0.0
        self._poll = _POLL_MIN

    async def turn(self) -> None:
        """Publishes one batch; with nothing to publish, waits."""
        await self._housekeeping()
        rows = await self._store.pending(_BATCH) if self._store.owned else []
        if rows:
            self._poll = _POLL_MIN
            await self._publish(rows)
        elif await self._store.doze():
            await self._store.notified(max(self._rebalance_at - time.monotonic(), _POLL_MIN))
        elif not self._store.dozing:
            # Somebody is emitting right now; their transaction ends soon.
            await self._store.notified(self._poll)
            self._poll = min(self._poll * 2, _POLL_MAX)

    async def _housekeeping(self) -> None:
        now = time.monotonic()
        if now >= self._rebalance_at:
            await self._store.rebalance()
            RELAY_PARTITIONS.set(len(self._store.owned))
            self._rebalance_at = now + _REBALANCE
        if now >= self._prune_at and 0 in self._store.owned:
            self._prune_at = now + _PRUNE
            try:
                if await self._store.prune(self._retention):
                    self._prune_at = now  # there may be more
            except Exception as error:  # events are published all the same
                log_failure(log, "old events not pruned", error, retry_in=_PRUNE)

    async def _publish(self, rows: Sequence[Any]) -> None:
        failpoints.hit("relay.before_publish")
        lanes: dict[str, list[Any]] = {}
        for row in rows:
            lanes.setdefault(row["subject"], []).append(row)
        confirmed: list[int] = []
        slots = asyncio.Semaphore(_LANES)

        async def publish_lane(lane: list[Any]) -> None:
            async with slots:
                for row in lane:
                    await publish(self._exchange, row)
                    confirmed.append(row["seq"])

        outcomes = await asyncio.gather(*map(publish_lane, lanes.values()), return_exceptions=True)
        failpoints.hit("relay.after_publish")
        if confirmed:
            await self._store.mark_published(confirmed)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome


def message(row: Any, headers: dict[str, Any] | None = None) -> Message:
    """The AMQP message of an outbox row."""
    traceparent = row["traceparent"]
    return Message(
        encode(row["id"], row["type"], row["subject"], row["created_at"], row["data"], traceparent),
        message_id=str(row["id"]),
        type=row["type"],
        content_type=CONTENT_TYPE,
        timestamp=row["created_at"],
        delivery_mode=DeliveryMode.PERSISTENT,
        headers={**({"traceparent": traceparent} if traceparent else {}), **(headers or {})},
    )


async def publish(exchange: AbstractExchange, row: Any) -> None:
    """Publishes one outbox row and returns once the broker has it on disk."""
    with telemetry.span(
        f"publish {row['type']}",
        parent=row["traceparent"],
        kind=SpanKind.PRODUCER,
        attributes={"messaging.message.id": str(row["id"])},
    ):
        # Not mandatory: an event nobody subscribes to is a normal event.
        await exchange.publish(message(row), routing_key=row["type"], mandatory=False, timeout=broker.TIMEOUT)
    EVENTS_PUBLISHED.labels(row["type"]).inc()


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """The relay with its health page and the gauges of everything on the way from outbox to consumer."""
    relay = Relay(settings)
    async with health.serve(settings.telemetry, {"relay": relay.check}), asyncio.TaskGroup() as tasks:
        tasks.create_task(relay.run(stop))
        tasks.create_task(monitor.watch(settings, stop))


def run() -> None:
    """`lyceum relay`."""
    settings = get_settings()
    telemetry.setup(settings, "relay")
    runtime.main(lambda stop: serve(settings, stop))
