"""The consumer `search`: carries what is published, changed and unpublished into the course index.

An event only says that something happened; the document is built from what PostgreSQL says now.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from core.db import Database
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.settings import Settings
from domain.contracts.events import CoursePublished, CourseUnpublished, CourseUpdated
from search import indices
from search.client import SearchClient, SearchUnavailable
from search.documents import read_entry
from search.setup import ensure


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[External]:
    client = SearchClient(settings.opensearch)
    try:
        yield External(partial(handle, client, db), transient=(SearchUnavailable,))
    finally:
        await client.close()


async def handle(client: SearchClient, db: Database, envelope: Envelope) -> None:
    """Indexes the event's course; does the same however often and in whatever order events arrive."""
    event = envelope.event
    if not isinstance(event, CoursePublished | CourseUpdated | CourseUnpublished):
        return
    # Before the row is read: an index that appears later is filled from a later state of the table.
    layout = await indices.layout(client)
    if layout.current is None:
        # OpenSearch lost everything (the in-memory stand-in was restarted): what is built now includes this change.
        await ensure(client, db)
        return
    async with db.read() as session:
        entry = await read_entry(session, event.course_id)
    await indices.write(client, layout.writable, [entry])
