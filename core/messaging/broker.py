"""Connecting to RabbitMQ. Plain connections: each loop reconnects itself, so that it knows what it lost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from yarl import URL

from core.settings import RabbitMQSettings

TIMEOUT = 10.0
"""Seconds for connecting, for a channel operation and for a publisher confirm."""

_HEARTBEAT = "10"


@asynccontextmanager
async def connect(settings: RabbitMQSettings, name: str) -> AsyncIterator[AbstractConnection]:
    """A connection that ends with the block. `name` shows in RabbitMQ's list of connections."""
    url = URL(settings.url.get_secret_value()).update_query(heartbeat=_HEARTBEAT)
    connection = await aio_pika.connect(url, timeout=TIMEOUT, client_properties={"connection_name": f"lyceum-{name}"})
    async with connection:
        yield connection
