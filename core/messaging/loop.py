"""`lyceum consume NAME`: takes deliveries, keeps each subject's order, retries, acknowledges, dead-letters."""

import asyncio
import importlib
import time
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Protocol, cast

from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Histogram

from core import failpoints, health, logs, runtime, telemetry
from core.db import Database
from core.messaging import broker, inbox, topology
from core.messaging.consumer import External, Handler, Poison, Transactional
from core.messaging.envelope import Envelope, MalformedEvent, decode
from core.messaging.failures import LOST_BROKER, is_transient, log_failure
from core.settings import RabbitMQSettings, Settings, get_settings

FORCE = "lyceum-force"
"""AMQP header: the consumer it names (or `EVERYONE`) handles the event even if it has before."""

EVERYONE = "*"

ATTEMPTS = 5
"""How often an error that is not transient is tried."""

_FIRST_DELAY, _MOST_DELAY = 0.2, 10.0
_TIME_LIMIT = 120.0
"""Seconds for one attempt: a handler that hangs must not hold its subject up for ever."""
_DRAIN = 25.0
_LIVENESS = 15.0
_CONCURRENCY = 8

EVENTS_HANDLED = Counter(
    "lyceum_consumer_events_total", "Deliveries by outcome: handled, duplicate, ignored, dead", ["consumer", "outcome"]
)
HANDLER_FAILURES = Counter("lyceum_consumer_failures_total", "Attempts that raised", ["consumer", "error"])
HANDLER_SECONDS = Histogram("lyceum_consumer_handle_seconds", "Time one attempt took", ["consumer"])
EVENT_AGE = Histogram(
    "lyceum_consumer_event_age_seconds",
    "Time from the event to the end of its handling",
    ["consumer"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800),
)

log = logs.get_logger(__name__)


class ConsumerLoop:
    """One consumer process's work; `run` ends when its stop event is set and what was begun is finished."""

    def __init__(
        self, subscription: topology.Subscription, handler: Handler, db: Database, settings: RabbitMQSettings
    ) -> None:
        self._subscription = subscription
        self._handler = handler
        self._db = db
        self._settings = settings
        self._ready = False

    async def check(self) -> None:
        """Raises while RabbitMQ is out of reach."""
        if not self._ready:
            raise ConnectionError("the consumer is reconnecting")

    async def run(self, stop: asyncio.Event) -> None:
        await runtime.keep(lambda: self._connected(stop), stop, self._lost)

    def _lost(self, error: Exception, delay: float) -> None:
        log_failure(log, "consumer lost RabbitMQ", error, consumer=self._subscription.name, retry_in=delay)

    async def _connected(self, stop: asyncio.Event) -> None:
        async with broker.connect(self._settings, self._subscription.name) as connection:
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=self._settings.prefetch)
            queue = await topology.declare(channel, self._settings, self._subscription)
            lanes = Lanes(self._subscription, self._handler, self._db)
            broken = asyncio.Event()
            channel.close_callbacks.add(lambda *_: broken.set())
            stopping = asyncio.create_task(runtime.when(stop, broken.set))
            await queue.consume(lanes.receive, arguments={"x-consumer-timeout": topology.PATIENCE})
            self._ready = True
            log.info("consumer connected", consumer=self._subscription.name)
            try:
                while not await runtime.wait(broken, _LIVENESS):
                    await self._subscribed(queue)
            finally:
                self._ready = False
                stopping.cancel()
                # Before the channel closes: until then no other process is given a later event of the same subject.
                await lanes.drain()
            if not stop.is_set():
                raise ConnectionError("RabbitMQ closed the channel")

    async def _subscribed(self, queue: AbstractQueue) -> None:
        # A broker ends a subscription without closing the channel, for instance when somebody deletes the queue.
        declared = await queue.declare(timeout=broker.TIMEOUT)
        if not declared.consumer_count:
            raise ConnectionError("RabbitMQ ended the subscription")


class Lanes:
    """The deliveries of one channel. Each subject is a lane in which one event is handled after the other."""

    def __init__(self, subscription: topology.Subscription, handler: Handler, db: Database) -> None:
        self._consumer = subscription.name
        self._events = subscription.events
        self._handler = handler
        self._db = db
        self._tails: dict[str, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()
        self._slots = asyncio.Semaphore(_CONCURRENCY)

    async def receive(self, message: AbstractIncomingMessage) -> None:
        """Puts a delivery at the end of its lane. Called in the order of the queue."""
        if self._closing.is_set():
            return
        try:
            envelope = decode(message.body)
        except MalformedEvent as error:
            await self._bury(message, error)
            return
        subject = envelope.subject
        task = asyncio.create_task(self._process(message, envelope, self._tails.get(subject)))
        self._tails[subject] = task
        task.add_done_callback(lambda done: self._leave(subject, done))

    def _leave(self, subject: str, done: asyncio.Task[None]) -> None:
        if self._tails.get(subject) is done:
            del self._tails[subject]

    async def drain(self) -> None:
        """Lets handlers that have begun finish; what waits is left to the broker, which delivers it again."""
        self._closing.set()
        tails = set(self._tails.values())
        if not tails:
            return
        _, late = await asyncio.wait(tails, timeout=_DRAIN)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _process(
        self, message: AbstractIncomingMessage, envelope: Envelope, previous: asyncio.Task[None] | None
    ) -> None:
        if previous is not None:
            await asyncio.wait({previous})
        forced = message.headers.get(FORCE) in (self._consumer, EVERYONE)
        noun, _, subject_id = envelope.subject.partition("/")
        with ExitStack() as context:
            context.enter_context(
                logs.bound(consumer=self._consumer, event_id=envelope.id, event_type=envelope.event.type)
            )
            context.enter_context(logs.bound(**{f"{noun}_id": subject_id}))
            try:
                outcome = await self._handle(envelope, forced)
            except Exception as error:
                await self._bury(message, error)
                return
            if outcome is not None:
                failpoints.hit(f"consumer.{self._consumer}.after_commit")
                EVENTS_HANDLED.labels(self._consumer, outcome).inc()
                EVENT_AGE.labels(self._consumer).observe(max(time.time() - envelope.time.timestamp(), 0))
                await self._settle(message.ack())

    async def _handle(self, envelope: Envelope, forced: bool) -> str | None:
        """The outcome; None when closing came first; raises what should end as a dead letter."""
        if not isinstance(envelope.event, self._events):
            return "ignored"  # a binding of an earlier release
        backoff = runtime.Backoff(_FIRST_DELAY, _MOST_DELAY)
        attempt = 0
        while not self._closing.is_set():
            try:
                async with self._slots, asyncio.timeout(_TIME_LIMIT):
                    return await self._attempt(envelope, forced)
            except Poison:
                raise
            except Exception as error:
                HANDLER_FAILURES.labels(self._consumer, type(error).__name__).inc()
                transient = is_transient(error, self._handler.transient)
                attempt += not transient
                if attempt >= ATTEMPTS:
                    raise
                delay = backoff.next()
                log.warning(
                    "event not handled, trying again",
                    error=type(error).__name__,
                    transient=transient,
                    retry_in=delay,
                    exc_info=None if transient else error,
                )
                await runtime.wait(self._closing, delay)
        return None

    async def _attempt(self, envelope: Envelope, forced: bool) -> str:
        failpoints.hit(f"consumer.{self._consumer}.before_handle")
        with (
            telemetry.span(
                f"handle {envelope.event.type}",
                parent=envelope.traceparent,
                kind=SpanKind.CONSUMER,
                attributes={"messaging.message.id": str(envelope.id), "messaging.consumer": self._consumer},
            ),
            HANDLER_SECONDS.labels(self._consumer).time(),
        ):
            match self._handler:
                case Transactional(handle):
                    async with self._db.transaction() as session:
                        fresh = await inbox.record(session, self._consumer, envelope.id)
                        if not fresh and not forced:
                            return "duplicate"
                        await handle(session, envelope)
                case External(call):
                    if not forced and await inbox.handled(self._db, self._consumer, envelope.id):
                        return "duplicate"
                    await call(envelope)
                    await inbox.note(self._db, self._consumer, envelope.id)
        return "handled"

    async def _bury(self, message: AbstractIncomingMessage, error: Exception) -> None:
        EVENTS_HANDLED.labels(self._consumer, "dead").inc()
        log.error(
            "event moved to the dead letters",
            consumer=self._consumer,
            message_id=message.message_id,
            error=type(error).__name__,
            exc_info=error,
        )
        await self._settle(message.reject(requeue=False))

    async def _settle(self, answer: Awaitable[object]) -> None:
        try:
            await answer
        except LOST_BROKER as error:
            # The broker delivers it again and the inbox recognises it.
            log.warning("connection lost before the answer", error=type(error).__name__)


class _Module(Protocol):
    """What a subscription's module offers."""

    def consumer(self, settings: Settings, db: Database) -> AbstractAsyncContextManager[Handler]: ...


async def serve(name: str, settings: Settings, stop: asyncio.Event) -> None:
    """The consumer `name` with its health page."""
    subscription = topology.SUBSCRIPTIONS[name]
    module = cast(_Module, importlib.import_module(subscription.module))
    db = Database(settings.database, application_name=f"lyceum-consume-{name}")
    try:
        async with module.consumer(settings, db) as handler:
            loop = ConsumerLoop(subscription, handler, db, settings.rabbitmq)
            async with health.serve(settings.telemetry, {"rabbitmq": loop.check, "postgresql": db.ping}):
                await loop.run(stop)
    finally:
        await db.dispose()


def run(name: str) -> None:
    """`lyceum consume NAME`."""
    if name not in topology.SUBSCRIPTIONS:
        raise SystemExit(f"There is no consumer {name!r}; there are {', '.join(topology.SUBSCRIPTIONS)}.")
    settings = get_settings()
    telemetry.setup(settings, f"consume-{name}")
    runtime.main(lambda stop: serve(name, settings, stop))
