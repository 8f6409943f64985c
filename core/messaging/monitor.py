"""Gauges for operators: how far behind the outbox and the queues are.

It has connections of its own, so that it goes on measuring while the relay cannot publish.
"""

import asyncio
from typing import Any

from aio_pika.abc import AbstractConnection
from prometheus_client import Gauge

from core import logs, runtime
from core.messaging import broker, topology
from core.messaging.failures import log_failure
from core.messaging.store import session
from core.settings import RabbitMQSettings, Settings

_INTERVAL = 5.0

_OUTBOX = """
select coalesce(extract(epoch from now() - min(created_at)), 0)::float as lag, count(*) as rows
from (select created_at from outbox where published_at is null order by seq limit 100000) waiting
"""

OUTBOX_LAG = Gauge("lyceum_outbox_lag_seconds", "Age of the oldest event that is not published yet")
OUTBOX_ROWS = Gauge("lyceum_outbox_rows", "Events that are not published yet (counted up to 100,000)")
QUEUE_DEPTH = Gauge("lyceum_queue_depth", "Messages ready in a queue", ["queue"])
QUEUE_CONSUMERS = Gauge("lyceum_queue_consumers", "Processes subscribed to a queue", ["queue"])

log = logs.get_logger(__name__)


async def observe_database(database: Any) -> None:
    """Sets the gauges that come from PostgreSQL."""
    outbox = await database.fetchrow(_OUTBOX)
    OUTBOX_LAG.set(outbox["lag"])
    OUTBOX_ROWS.set(outbox["rows"])


async def observe_queues(connection: AbstractConnection, settings: RabbitMQSettings) -> None:
    """Sets depth and number of consumers of each queue, dead letters included."""
    async with connection.channel() as channel:
        for consumer in topology.SUBSCRIPTIONS:
            for name in (topology.queue_name(settings, consumer), topology.dead_queue_name(settings, consumer)):
                queue = await channel.get_queue(name)
                result = queue.declaration_result
                _set(QUEUE_DEPTH, name, result.message_count)
                _set(QUEUE_CONSUMERS, name, result.consumer_count)


def _set(gauge: Gauge, queue: str, value: int | None) -> None:
    gauge.labels(queue).set(value or 0)


async def watch(settings: Settings, stop: asyncio.Event) -> None:
    """Measures every few seconds until `stop`; what cannot be reached is tried again."""

    async def database() -> None:
        async with session(settings.database, "monitor") as connection:
            while True:
                await observe_database(connection)
                if await runtime.wait(stop, _INTERVAL):
                    return

    async def queues() -> None:
        async with broker.connect(settings.rabbitmq, "monitor") as connection:
            async with connection.channel() as channel:
                await topology.declare_all(channel, settings.rabbitmq)
            while True:
                await observe_queues(connection, settings.rabbitmq)
                if await runtime.wait(stop, _INTERVAL):
                    return

    def lost(error: Exception, delay: float) -> None:
        log_failure(log, "monitor lost a connection", error, retry_in=delay)

    await asyncio.gather(runtime.keep(database, stop, lost), runtime.keep(queues, stop, lost))
