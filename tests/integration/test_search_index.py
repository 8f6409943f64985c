"""The course index: what is in it, in which order changes may arrive, and what survives."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from core.messaging import topology
from core.messaging.loop import ConsumerLoop
from core.messaging.relay import Relay
from core.settings import Settings
from search import indexer, indices, setup
from search.documents import GONE, Entry, read_entry
from services.outbox import emit
from tests.support import isolation
from tests.support.catalogue import Catalogue, catalogue
from tests.support.messaging import own_queues, running
from tests.support.stack import Servers
from tests.support.wait import until


@pytest.fixture(scope="module")
async def corner(servers: Servers) -> AsyncIterator[Settings]:
    async with isolation.corner(servers) as fresh:
        yield fresh


@pytest.fixture
async def courses(corner: Settings) -> AsyncIterator[Catalogue]:
    async with catalogue(corner) as fresh:
        yield fresh


async def ensure(courses: Catalogue) -> str:
    await setup.ensure(courses.client, courses.db)
    index = (await indices.layout(courses.client)).current
    assert index is not None
    return index


async def test_the_first_index_holds_every_published_course_and_no_other(courses: Catalogue) -> None:
    await courses.add("Bread")
    await courses.add("Butter", status="unpublished")
    await courses.add("Jam", status="draft", published_at=None)

    await ensure(courses)

    assert await courses.titles() == ["Bread"]


async def test_an_index_that_is_right_is_kept(courses: Catalogue) -> None:
    await courses.add("Bread")

    assert await ensure(courses) == await ensure(courses)


async def test_an_empty_index_is_right_while_nothing_is_published(courses: Catalogue) -> None:
    await courses.add("Bread", status="unpublished")

    assert await ensure(courses) == await ensure(courses)


async def test_an_empty_index_is_built_anew_when_courses_are_published(courses: Catalogue) -> None:
    empty = await ensure(courses)
    await courses.add("Bread")

    assert await ensure(courses) != empty
    assert await courses.titles() == ["Bread"]


async def test_an_index_of_an_older_shape_is_replaced(courses: Catalogue) -> None:
    alias = indices.read_alias(courses.client.settings)
    old = f"{alias}-v0-20200101"
    await courses.client.request("PUT", f"/{old}", {"aliases": {alias: {}, f"{old}-write": {}}})
    await courses.client.request("PUT", f"/{old}/_doc/1", {"title": "Stone"}, params={"refresh": "true"})
    await courses.add("Bread")

    current = await ensure(courses)

    assert (await indices.layout(courses.client)).writable == [current]
    assert await courses.titles() == ["Bread"]


async def test_two_processes_that_find_no_index_build_one(courses: Catalogue) -> None:
    await courses.add("Bread")

    assert len(set(await asyncio.gather(ensure(courses), ensure(courses), ensure(courses)))) == 1


async def test_changes_reach_the_index(courses: Catalogue) -> None:
    await ensure(courses)
    bread = await courses.add("Bread")

    await courses.tell(await courses.change(bread, status="published"))
    assert await courses.titles("bread") == ["Bread"]
    await courses.tell(await courses.change(bread, title="Sourdough"))
    assert await courses.titles("sourdough") == ["Sourdough"]
    assert await courses.titles("bread") == []
    await courses.tell(await courses.change(bread, status="unpublished"))
    assert await courses.titles() == []
    await courses.tell(await courses.change(bread, status="published"))
    assert await courses.titles() == ["Sourdough"]


async def test_an_event_says_when_to_look_not_what_to_see(courses: Catalogue) -> None:
    await ensure(courses)
    bread = await courses.add("Bread")
    published = await courses.change(bread, status="published")
    unpublished = await courses.change(bread, status="unpublished")

    await courses.tell(unpublished)
    await courses.tell(published)

    assert await courses.titles() == []


async def test_a_write_that_is_late_changes_nothing(courses: Catalogue) -> None:
    index = await ensure(courses)
    bread = await courses.add("Bread", version=5)
    async with courses.db.read() as session:
        fifth = await read_entry(session, bread)
    assert fifth.document is not None
    fourth = Entry(bread, 4, fifth.document | {"title": "Dough"})
    again = Entry(bread, 5, fifth.document | {"title": "Bread, again"})

    await indices.write(courses.client, [index], [fifth])
    await indices.write(courses.client, [index], [fourth])
    assert await courses.titles() == ["Bread"]
    await indices.write(courses.client, [index], [again])
    assert await courses.titles() == ["Bread, again"]


async def test_a_write_that_is_late_does_not_bring_a_course_back(courses: Catalogue) -> None:
    index = await ensure(courses)
    bread = await courses.add("Bread")
    async with courses.db.read() as session:
        first = await read_entry(session, bread)

    await indices.write(courses.client, [index], [Entry(bread, 2, None)])
    await indices.write(courses.client, [index], [first])

    assert await courses.titles() == []


async def test_a_course_without_a_row_is_gone_for_good(courses: Catalogue) -> None:
    await ensure(courses)
    bread = await courses.add("Bread")
    event = await courses.change(bread, title="Toast")
    await courses.tell(event)
    async with courses.db.read() as session:
        toast = await read_entry(session, bread)
    await courses.remove_all()

    await courses.tell(event)
    await indices.write(courses.client, (await indices.layout(courses.client)).writable, [toast])

    assert await courses.titles() == []
    async with courses.db.read() as session:
        assert await read_entry(session, bread) == Entry(bread, GONE, None)


async def test_a_write_to_an_index_that_was_just_replaced_creates_nothing(courses: Catalogue) -> None:
    bread = await courses.add("Bread")
    index = await ensure(courses)
    before = await indices.layout(courses.client)

    await indices.write(courses.client, [index, f"{index}-gone"], [Entry(bread, 7, None)])

    assert await indices.layout(courses.client) == before
    assert await courses.titles() == []


async def test_a_document_that_does_not_fit_is_an_error_of_ours(courses: Catalogue) -> None:
    index = await ensure(courses)
    bread = await courses.add("Bread")

    with pytest.raises(indices.DocumentRefused, match="strict"):
        await indices.write(courses.client, [index], [Entry(bread, 1, {"colour": "brown"})])


async def test_an_event_rebuilds_an_index_that_was_lost(courses: Catalogue) -> None:
    bread = await courses.add("Bread")
    await courses.add("Butter")
    index = await ensure(courses)
    event = await courses.change(bread, title="Toast")
    await courses.client.request("DELETE", f"/{index}")

    await courses.tell(event)

    assert await courses.titles() == ["Toast", "Butter"]


async def test_a_published_course_travels_from_the_outbox_to_the_index(courses: Catalogue, corner: Settings) -> None:
    await ensure(courses)
    bread = await courses.add("Bread")
    async with own_queues(corner) as settings, indexer.consumer(settings, courses.db) as handler:
        consumer = ConsumerLoop(topology.SUBSCRIPTIONS["search"], handler, courses.db, settings.rabbitmq)
        async with running(Relay(settings), consumer):
            event = await courses.change(bread, status="published")
            async with courses.db.transaction() as session:
                await emit(session, event)
            assert await until(courses.titles) == ["Bread"]


async def test_the_indexer_rebuilds_an_index_that_was_lost_while_nothing_happens(
    courses: Catalogue, corner: Settings
) -> None:
    await courses.add("Bread")
    lost = await ensure(courses)
    async with indexer.consumer(corner, courses.db):
        await courses.client.request("DELETE", f"/{lost}")

        async def rebuilt() -> bool:
            return (await indices.layout(courses.client)).current is not None

        await until(rebuilt)
    assert await courses.titles() == ["Bread"]
