"""The consumer `search`: carries what is published, changed and unpublished into the course index.

An event only says that something happened; the document is built from what PostgreSQL says now.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from core import logs, runtime
from core.db import Database
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.messaging.failures import log_failure
from core.settings import Settings
from domain.contracts.events import CoursePublished, CourseUnpublished, CourseUpdated
from search import indices
from search.client import SearchClient, SearchUnavailable
from search.documents import read_entry
from search.setup import ensure

log = logs.get_logger(__name__)

_WATCH_INTERVAL = 5.0


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[External]:
    client = SearchClient(settings.opensearch)
    not_checked = partial(log_failure, log, "course index not checked", retry_in=_WATCH_INTERVAL)
    watch = asyncio.create_task(
        # Nothing sets the event: a rebuild takes too long to wait for its end.
        runtime.every(_WATCH_INTERVAL, asyncio.Event(), partial(_check, client, db), not_checked)
    )
    try:
        yield External(partial(handle, client, db), transient=(SearchUnavailable,))
    finally:
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
        await client.close()


async def _check(client: SearchClient, db: Database) -> None:
    """Builds the index when OpenSearch comes back without it (the stand-in keeps everything in memory)."""
    if (await indices.layout(client)).current is None:
        await ensure(client, db)


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
