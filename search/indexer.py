"""The consumer `search`: carries what is published, changed and unpublished into the course index.

An event only says that something happened; the document is built from what PostgreSQL says now.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog

from core.db import Database
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.settings import Settings
from domain.contracts.events import CoursePublished, CourseUnpublished, CourseUpdated
from search import indices
from search.client import SearchClient, SearchUnavailable
from search.documents import read_entry
from search.setup import ensure

_log = structlog.get_logger(__name__)

_WATCH_INTERVAL = 5.0


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[External]:
    client = SearchClient(settings.opensearch)
    watch = asyncio.create_task(_watch(client, db))
    try:
        yield External(partial(handle, client, db), transient=(SearchUnavailable,))
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await client.close()


async def _watch(client: SearchClient, db: Database) -> None:
    """Builds the index when OpenSearch comes back without it (the stand-in keeps everything in memory)."""
    while True:
        try:
            if (await indices.layout(client)).current is None:
                await ensure(client, db)
        except Exception as error:  # whatever it is, it is tried again and stops no event
            _log.warning("course_index_not_checked", error=type(error).__name__, retry_in=_WATCH_INTERVAL)
        await asyncio.sleep(_WATCH_INTERVAL)


async def handle(client: SearchClient, db: Database, envelope: Envelope) -> None:
    """Indexes the event's course; does the same however often and in whatever order events arrive."""
    event = envelope.event
    if not isinstance(event, CoursePublished | CourseUpdated | CourseUnpublished):
        return
    # Before the row is read: an index that appears later is filled from a later state of the table.
    layout = await indices.layout(client)
    if layout.current is None:
        # There is nothing to write to, and what is built now includes this change.
        await ensure(client, db)
        return
    async with db.read() as session:
        entry = await read_entry(session, event.course_id)
    await indices.write(client, layout.writable, [entry])
