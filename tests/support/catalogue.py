"""A catalogue of courses in PostgreSQL and the index that should show it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update

from core import clock
from core.db import Database
from core.ids import new_id
from core.messaging.envelope import Envelope
from core.settings import Settings
from domain.contracts.events import CoursePublished, CourseUnpublished, CourseUpdated
from models.course import Course
from search import indices
from search.client import SearchClient
from search.indexer import handle
from search.queries import CourseQuery, Found, search_courses
from tests.support.scenes import add_user

Change = CoursePublished | CourseUpdated | CourseUnpublished


class Catalogue:
    def __init__(self, db: Database, client: SearchClient) -> None:
        self.db, self.client = db, client
        self._owner: UUID | None = None
        self._added = 0

    async def add(self, title: str, **fields: Any) -> UUID:
        """A published course; each is a minute older than the one before."""
        course_id = new_id()
        self._added += 1
        async with self.db.transaction() as session:
            if self._owner is None:
                self._owner = (await add_user(session)).id
            row = {
                "title": title,
                "slug": course_id.hex,
                "summary": "",
                "category": "cooking",
                "status": "published",
                "published_at": clock.now() - timedelta(minutes=self._added),
            }
            session.add(Course(id=course_id, owner_id=self._owner, **row | fields))
        return course_id

    async def change(self, course_id: UUID, **fields: Any) -> Change:
        """As authoring does it: a new version, and the event it would leave in the outbox."""
        async with self.db.transaction() as session:
            await session.execute(
                update(Course).where(Course.id == course_id).values(version=Course.version + 1, **fields)
            )
        kinds: dict[str, type[Change]] = {"published": CoursePublished, "unpublished": CourseUnpublished}
        kind = kinds.get(fields.get("status", ""), CourseUpdated)
        return kind(course_id=course_id)

    async def remove_all(self) -> None:
        async with self.db.transaction() as session:
            await session.execute(delete(Course))

    async def tell(self, event: Change) -> None:
        """Delivers the event to the indexer."""
        envelope = Envelope(id=new_id(), subject=event.subject, time=clock.now(), event=event)
        await handle(self.client, self.db, envelope)

    async def refresh(self) -> None:
        """Makes what was written visible to searches."""
        await indices.refresh(self.client, indices.read_alias(self.client.settings))

    async def search(self, q: str = "", **fields: Any) -> Found:
        await self.refresh()
        return await search_courses(self.client, CourseQuery(q=q, **{"limit": 100} | fields))

    async def titles(self, q: str = "", **fields: Any) -> list[str]:
        return [item["title"] for item in (await self.search(q, **fields)).items]

    async def indexed(self) -> dict[str, str]:
        """What searches show: titles by id."""
        return {item["id"]: item["title"] for item in (await self.search()).items}

    async def published(self) -> dict[str, str]:
        """What searches should show."""
        async with self.db.read() as session:
            rows = await session.execute(select(Course.id, Course.title).where(Course.status == "published"))
            return {str(course_id): title for course_id, title in rows}


@asynccontextmanager
async def catalogue(settings: Settings) -> AsyncIterator[Catalogue]:
    """An empty catalogue without an index; whatever index it gets is deleted afterwards."""
    db = Database(settings.database, application_name="catalogue")
    client = SearchClient(settings.opensearch)
    try:
        fresh = Catalogue(db, client)
        yield fresh
        await fresh.remove_all()
        found = await indices.layout(client)
        for index in {*found.unused, found.current} - {None}:
            await client.request("DELETE", f"/{index}")
    finally:
        await client.close()
        await db.dispose()
