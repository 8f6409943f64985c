"""Makes sure that there is a course index to search and to write to."""

import asyncio

from core import logs
from core.db import Database
from core.settings import Settings
from search import indices
from search.client import SearchClient
from search.documents import any_published
from search.reindex import ReindexRunning, rebuild

log = logs.get_logger(__name__)

_POLL = 0.5


async def ensure_index(settings: Settings) -> None:
    """Part of `lyceum setup`: builds the index from PostgreSQL when it is missing, empty or of an older shape."""
    db = Database(settings.database, application_name="lyceum-setup")
    client = SearchClient(settings.opensearch)
    try:
        await ensure(client, db)
    finally:
        await client.close()
        await db.dispose()


async def ensure(client: SearchClient, db: Database) -> None:
    """The same with clients at hand. Waits while somebody else builds it."""
    while not await _usable(client, db):
        try:
            await rebuild(client, db)
        except ReindexRunning:
            log.info("course index is built elsewhere")
            await asyncio.sleep(_POLL)


async def _usable(client: SearchClient, db: Database) -> bool:
    layout = await indices.layout(client)
    if layout.current is None or layout.outdated:
        return False
    if await indices.count(client, layout.current):
        return True
    async with db.read() as session:
        return not await any_published(session)
