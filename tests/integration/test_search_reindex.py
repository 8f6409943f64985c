"""Rebuilding the index while it is read and written, interrupted, and twice at once."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.db import Database
from core.settings import Settings
from deploy.local.stack import script
from search import indices, setup
from search.reindex import Rebuilt, ReindexRunning, rebuild
from tests.support import isolation
from tests.support.catalogue import Catalogue, catalogue
from tests.support.stack import Servers
from tests.support.wait import until


@pytest.fixture(scope="module")
async def corner(servers: Servers) -> AsyncIterator[Settings]:
    async with isolation.corner(servers) as fresh:
        yield fresh


@pytest.fixture
async def courses(corner: Settings) -> AsyncIterator[Catalogue]:
    async with catalogue(corner) as fresh:
        await setup.ensure(fresh.client, fresh.db)
        yield fresh


@asynccontextmanager
async def unreadable(db: Database) -> AsyncIterator[None]:
    """While the block runs, whoever reads courses waits."""
    async with db.transaction() as session:
        await session.execute(text("set local idle_in_transaction_session_timeout = 0"))
        await session.execute(text("lock table courses in access exclusive mode"))
        yield


async def waiting_for_courses(db: Database) -> bool:
    """Somebody waits for the lock of `unreadable`."""
    async with db.read() as session:
        return bool(
            await session.scalar(
                text("select count(*) from pg_locks where relation = 'courses'::regclass and not granted")
            )
        )


async def current(courses: Catalogue) -> str | None:
    return (await indices.layout(courses.client)).current


async def test_a_rebuild_replaces_the_index(courses: Catalogue) -> None:
    before = await current(courses)
    for number in range(7):
        await courses.add(f"Loaf {number}")
    await courses.add("Stone", status="unpublished")

    rebuilt = await rebuild(courses.client, courses.db, batch=3)

    assert before is not None
    assert rebuilt == Rebuilt(index=rebuilt.index, courses=7, removed=[before])
    assert await indices.layout(courses.client) == indices.Layout(rebuilt.index, [rebuilt.index], [])
    assert await courses.indexed() == await courses.published()


async def test_a_rebuild_repairs_what_the_index_missed(courses: Catalogue) -> None:
    bread = await courses.add("Bread")
    butter = await courses.add("Butter")
    await courses.tell(await courses.change(bread, title="Bread"))
    await courses.tell(await courses.change(butter, title="Butter"))
    await courses.change(bread, title="Toast")
    await courses.change(butter, status="unpublished")

    await rebuild(courses.client, courses.db)

    assert await courses.indexed() == {str(bread): "Toast"}


async def test_a_batch_that_ends_with_the_table_is_the_last(courses: Catalogue) -> None:
    for number in range(6):
        await courses.add(f"Loaf {number}")

    assert (await rebuild(courses.client, courses.db, batch=3)).courses == 6


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_of_what_changes_meanwhile(courses: Catalogue, seed: int) -> None:
    random_ = random.Random(seed)
    steady = [await courses.add(f"Steady {number}") for number in range(10)]
    lively = [await courses.add(f"Lively {number}") for number in range(20)]
    await rebuild(courses.client, courses.db)
    rebuilding = True

    async def author() -> None:
        """Changes courses; their events arrive late and in any order."""
        late = []
        while rebuilding:
            late.append(await courses.change(random_.choice(lively), **_some_change(random_)))
            if random_.random() < 0.2:
                lively.append(await courses.add("New"))
                late.append(await courses.change(lively[-1], status="published"))
            random_.shuffle(late)
            for event in late[3:]:
                await courses.tell(event)
            del late[3:]
        for event in late:
            await courses.tell(event)

    async def reader() -> None:
        """Finds what nobody touches, at every moment."""
        while rebuilding:
            found = await courses.titles("steady")
            assert sorted(found) == sorted(f"Steady {number}" for number in range(len(steady)))

    others = [asyncio.create_task(task()) for task in (author, author, reader)]
    try:
        for _ in range(3):
            await rebuild(courses.client, courses.db, batch=4)
    finally:
        rebuilding = False
        await asyncio.gather(*others)

    assert await courses.indexed() == await courses.published()


def _some_change(random_: random.Random) -> dict[str, str]:
    return random_.choice(
        [{"status": "published"}, {"status": "unpublished"}, {"title": f"Lively {random_.randrange(1000)}"}]
    )


async def test_a_change_during_the_rebuild_outlives_the_older_row_it_read(courses: Catalogue) -> None:
    bread = await courses.add("Bread")
    async with unreadable(courses.db):
        running = asyncio.create_task(rebuild(courses.client, courses.db))
        await until(lambda: waiting_for_courses(courses.db))
        layout = await indices.layout(courses.client)
    await running

    assert len(layout.writable) == 2  # both the index in use and the one being filled hear of changes
    assert await courses.indexed() == {str(bread): "Bread"}


async def test_two_rebuilds_do_not_run_at_once(courses: Catalogue) -> None:
    await courses.add("Bread")
    async with unreadable(courses.db):
        first = asyncio.create_task(rebuild(courses.client, courses.db))
        await until(lambda: waiting_for_courses(courses.db))
        with pytest.raises(ReindexRunning):
            await rebuild(courses.client, courses.db)

    assert (await first).courses == 1
    assert (await rebuild(courses.client, courses.db)).courses == 1


async def test_a_rebuild_that_is_canceled_leaves_readers_alone_and_the_next_one_tidies_up(courses: Catalogue) -> None:
    bread = await courses.add("Bread")
    before = await current(courses)
    async with unreadable(courses.db):
        running = asyncio.create_task(rebuild(courses.client, courses.db))
        await until(lambda: waiting_for_courses(courses.db))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    layout = await indices.layout(courses.client)
    assert layout.current == before
    assert len(layout.unused) == 1
    await courses.tell(await courses.change(bread, title="Toast"))
    assert await courses.titles() == ["Toast"]

    rebuilt = await rebuild(courses.client, courses.db)

    assert await indices.layout(courses.client) == indices.Layout(rebuilt.index, [rebuilt.index], [])
    assert await courses.titles() == ["Toast"]


async def test_a_rebuild_that_loses_its_lock_does_not_publish(courses: Catalogue) -> None:
    await courses.add("Bread")
    before = await current(courses)
    async with unreadable(courses.db):
        running = asyncio.create_task(rebuild(courses.client, courses.db))
        await until(lambda: waiting_for_courses(courses.db))
        async with courses.db.read() as session:
            killed = await session.scalar(
                text(
                    "select count(pg_terminate_backend(pid)) from pg_locks where locktype = 'advisory' and granted"
                    " and database = (select oid from pg_database where datname = current_database())"
                )
            )
    assert killed == 1
    with pytest.raises(DBAPIError):
        await running

    assert await current(courses) == before


async def start(settings: Settings) -> asyncio.subprocess.Process:
    """`lyceum search reindex`; its statements may wait for another process to start and end."""
    settings = settings.model_copy(
        update={"database": settings.database.model_copy(update={"statement_timeout": 120.0})}
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LYCEUM_")}
    environment |= {**isolation.as_environment(settings), "LYCEUM_ENV_FILE": os.devnull}
    return await asyncio.create_subprocess_exec(
        script("lyceum"),
        "search",
        "reindex",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_the_command_says_what_it_built_or_why_not(courses: Catalogue, corner: Settings) -> None:
    await courses.add("Bread")
    async with unreadable(courses.db):
        first = await start(corner)
        await until(lambda: waiting_for_courses(courses.db))
        second = await start(corner)
        _, refusal = await second.communicate()
    report, _ = await first.communicate()

    assert (first.returncode, second.returncode) == (0, 1)
    assert report.decode().splitlines()[-1] == f"{await current(courses)}: 1 courses"
    alias = indices.read_alias(courses.client.settings)
    assert refusal.decode().splitlines()[-1] == f"Another process is rebuilding {alias}."


async def test_a_rebuild_that_is_killed_blocks_nobody(courses: Catalogue, corner: Settings) -> None:
    await courses.add("Bread")
    async with unreadable(courses.db):
        process = await start(corner)
        await until(lambda: waiting_for_courses(courses.db))
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert len((await indices.layout(courses.client)).unused) == 1

    async def again() -> Rebuilt | None:
        """PostgreSQL notices that its client is gone when it next speaks to it."""
        try:
            return await rebuild(courses.client, courses.db)
        except ReindexRunning:
            return None

    rebuilt = await until(again)
    assert rebuilt is not None
    assert await indices.layout(courses.client) == indices.Layout(rebuilt.index, [rebuilt.index], [])
