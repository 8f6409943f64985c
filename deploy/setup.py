"""`lyceum setup`: brings every backing service to the state the processes expect. Safe to repeat and to run twice."""

import asyncio

from core.integrations.s3 import S3Storage
from core.messaging import broker, topology
from core.settings import Settings, get_settings
from core.temporal import connect
from models.migrations import runner
from search.setup import ensure_index
from workflows import schedules


async def migrate_database(settings: Settings) -> None:
    """Migrations, as the schema's owner."""
    await runner.upgrade(settings.database.owner_url.get_secret_value())


async def declare_topology(settings: Settings) -> None:
    async with broker.connect(settings.rabbitmq, "setup") as connection:
        await topology.declare_all(await connection.channel(), settings.rabbitmq)


async def prepare_bucket(settings: Settings) -> None:
    storage = S3Storage(settings.s3)
    await storage.ensure_bucket(origins=settings.api.origins)


async def prepare_temporal(settings: Settings) -> None:
    client = await connect(settings)
    await schedules.register_search_attributes(client)
    await schedules.sync(client, settings)
    await asyncio.sleep(0.2)  # sdk-python#300: its threads may abort an interpreter that leaves at once


async def setup(settings: Settings) -> None:
    """The index is built from PostgreSQL, so migrations come first; the rest has no order."""
    await migrate_database(settings)
    await asyncio.gather(
        declare_topology(settings), prepare_bucket(settings), prepare_temporal(settings), ensure_index(settings)
    )


def run() -> None:
    asyncio.run(setup(get_settings()))


def migrate() -> None:
    """`lyceum db upgrade`."""
    asyncio.run(migrate_database(get_settings()))
