"""Queues of one test's own, and loops that run while a test does."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import UUID

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractQueue
from sqlalchemy import select

from core.db import Database
from core.messaging import broker, topology
from core.settings import RabbitMQSettings, Settings
from models.messaging import OutboxEvent


class Runs(Protocol):
    async def run(self, stop: asyncio.Event) -> None: ...


@asynccontextmanager
async def running(*loops: Runs) -> AsyncIterator[asyncio.Event]:
    """The loops (relays, consumers) work during the block; the event stops them earlier."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(loop.run(stop)) for loop in loops]
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@asynccontextmanager
async def own_queues(settings: Settings) -> AsyncIterator[Settings]:
    """The same settings with exchanges and queues of their own, which are deleted afterwards."""
    prefix = f"{settings.rabbitmq.prefix}.{secrets.token_hex(4)}"
    rabbitmq = settings.rabbitmq.model_copy(update={"prefix": prefix})
    fresh = settings.model_copy(update={"rabbitmq": rabbitmq})
    async with channel_of(rabbitmq) as channel:
        await topology.declare_all(channel, rabbitmq)
        yield fresh
        await _forget(channel, rabbitmq, topology.SUBSCRIPTIONS)


async def _forget(channel: AbstractChannel, rabbitmq: RabbitMQSettings, consumers: Iterable[str]) -> None:
    for consumer in consumers:
        await channel.queue_delete(topology.queue_name(rabbitmq, consumer))
        await channel.queue_delete(topology.dead_queue_name(rabbitmq, consumer))
    for exchange in (topology.exchange_name(rabbitmq), f"{rabbitmq.prefix}.dead"):
        await channel.exchange_delete(exchange)


@asynccontextmanager
async def channel_of(rabbitmq: RabbitMQSettings) -> AsyncIterator[AbstractChannel]:
    async with broker.connect(rabbitmq, "test") as connection, connection.channel() as channel:
        yield channel


class Tap:
    """A temporary queue that gets every event: what RabbitMQ was really given."""

    def __init__(self, queue: AbstractQueue) -> None:
        self._queue = queue
        self.messages: list[aio_pika.abc.AbstractIncomingMessage] = []

    async def take(self) -> list[dict[str, Any]]:
        """Everything that has arrived since the beginning, as CloudEvents."""
        while message := await self._queue.get(no_ack=True, fail=False):
            self.messages.append(message)
        return [json.loads(message.body) for message in self.messages]


@asynccontextmanager
async def tapped(rabbitmq: RabbitMQSettings) -> AsyncIterator[Tap]:
    async with channel_of(rabbitmq) as channel:
        exchange = await topology.declare_exchange(channel, rabbitmq)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, routing_key="#")
        yield Tap(queue)


def published(db: Database, *ids: UUID) -> Callable[[], Awaitable[bool]]:
    """A condition: all these events are marked as published."""

    async def check() -> bool:
        async with db.read() as session:
            query = select(OutboxEvent.id).where(OutboxEvent.id.in_(ids), OutboxEvent.published_at.is_not(None))
            return len((await session.scalars(query)).all()) == len(ids)

    return check
