"""Rebuilding the course index while it is read and written: `lyceum search reindex`.

1. A new index is created. From here on the indexer writes every change to the old one and to the new one.
2. Every published course is read from PostgreSQL and written to the new one with its version; where the indexer was
   there first with something newer, the older document is refused.
3. Readers are pointed to the new index in one step, and the old one is deleted.

A change that commits after its row was read in step 2 has an event that is handled after step 1, so it reaches the new
index. Interrupted before step 3, nothing has changed for readers; the next rebuild removes what is left over. A
PostgreSQL advisory lock keeps two rebuilds apart.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import typer
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core import clock, logs
from core.db import Database
from core.settings import get_settings
from domain.errors import Conflict
from search import indices
from search.client import SearchClient
from search.documents import read_published

log = logs.get_logger(__name__)

_BATCH = 500


class ReindexRunning(Conflict):
    """Somebody else is rebuilding the index."""

    title = "The index is being rebuilt already"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`courses` were visible to searches in `index` when readers were pointed to it."""

    index: str
    courses: int
    removed: list[str]


async def rebuild(client: SearchClient, db: Database, *, batch: int = _BATCH) -> Rebuilt:
    """Builds a fresh index and publishes it. Raises `ReindexRunning` and `SearchUnavailable`."""
    async with _exclusive(client, db) as lock:
        await indices.drop_unused(client)
        index = await indices.create(client, clock.now())
        await _fill(client, db, index, batch)
        await indices.refresh(client, index)
        courses = await indices.count(client, index)
        # A lost connection means a lost lock: another rebuild may have begun and dropped this index.
        await lock.execute(text("select 1"))
        await indices.publish(client, index)
        removed = await indices.drop_unused(client)
    log.info("course index rebuilt", index=index, courses=courses, removed=removed)
    return Rebuilt(index, courses, removed)


async def _fill(client: SearchClient, db: Database, index: str, batch: int) -> None:
    after = None
    while True:
        async with db.read() as session:
            entries = await read_published(session, after=after, limit=batch)
        await indices.write(client, [index], entries)
        if len(entries) < batch:
            return
        after = entries[-1].id


@asynccontextmanager
async def _exclusive(client: SearchClient, db: Database) -> AsyncIterator[AsyncConnection]:
    alias = indices.read_alias(client.settings)
    key = {"key": int.from_bytes(hashlib.blake2b(alias.encode(), digest_size=8).digest(), signed=True)}
    # Outside any transaction: the server ends those that idle, and the lock belongs to the session.
    engine = db.engine.execution_options(isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        if not await connection.scalar(text("select pg_try_advisory_lock(:key)"), key):
            raise ReindexRunning(f"Another process is rebuilding {alias}.")
        try:
            yield connection
        finally:
            # With a broken connection the lock is gone already.
            if not connection.invalidated:
                await connection.execute(text("select pg_advisory_unlock(:key)"), key)


async def _run() -> Rebuilt:
    settings = get_settings()
    db = Database(settings.database, application_name="lyceum-reindex")
    client = SearchClient(settings.opensearch)
    try:
        return await rebuild(client, db)
    finally:
        await client.close()
        await db.dispose()


def run() -> None:
    """`lyceum search reindex`; exits with 1 when another one is running."""
    try:
        rebuilt = asyncio.run(_run())
    except ReindexRunning as refusal:
        typer.echo(refusal.detail, err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{rebuilt.index}: {rebuilt.courses} courses")
