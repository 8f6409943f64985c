"""Somebody who listens on RabbitMQ, as any other system could: a queue of its own that vanishes with it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from core.settings import RabbitMQSettings


@dataclass(slots=True)
class Witness:
    """`events` are the CloudEvents seen, in order of arrival."""

    exchange: str
    events: list[dict[str, Any]] = field(default_factory=list)

    async def note(self, message: AbstractIncomingMessage) -> None:
        self.events.append(json.loads(message.body))

    def find(self, type: str, **data: str) -> dict[str, Any] | None:
        """The first event of a type whose data has these values."""
        for event in self.events:
            if event["type"] == type and data.items() <= event["data"].items():
                return event
        return None


@asynccontextmanager
async def listen(settings: RabbitMQSettings) -> AsyncIterator[Witness]:
    """Hears every event from now on."""
    witness = Witness(f"{settings.prefix}.events")
    async with await aio_pika.connect(settings.url.get_secret_value()) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True, auto_delete=True)
        await queue.bind(witness.exchange, routing_key="#")
        await queue.consume(witness.note, no_ack=True)
        yield witness
