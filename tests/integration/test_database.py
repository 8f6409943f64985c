"""The connection pool: what it notices, and reads that go past sessions."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core.db import Database
from core.messaging import store
from core.settings import Settings
from tests.support.wait import until


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[Database]:
    """A pool of one connection, under a name of its own."""
    one = settings.database.model_copy(update={"pool_size": 1, "max_overflow": 0})
    database = Database(one, application_name=f"pool-{uuid4().hex[:8]}")
    yield database
    await database.dispose()


async def backend(database: Database) -> int:
    row = await database.fetch_row("select pg_backend_pid()")
    assert row is not None
    return int(row[0])


async def sleeps(db: Database, pid: int) -> bool:
    """Whether that connection is in the middle of its statement."""
    row = await db.fetch_row("select wait_event = 'PgSleep' from pg_stat_activity where pid = $1", pid)
    return bool(row and row[0])


async def end(db: Database, pid: int) -> None:
    """Ends a connection at the server, and waits until it is gone."""
    async with db.transaction() as session:
        await session.execute(text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


async def test_a_connection_the_server_closed_is_replaced_unseen(small: Database, db: Database) -> None:
    first = await backend(small)
    assert await backend(small) == first
    await end(db, first)
    assert await backend(small) != first
    await end(db, await backend(small))
    async with small.transaction() as session:
        assert await session.scalar(text("select 1")) == 1
    await end(db, await backend(small))
    async with small.read() as session:
        assert await session.scalar(text("select 1")) == 1


async def test_a_row_is_fetched_with_its_types(small: Database) -> None:
    id_ = uuid4()
    row = await small.fetch_row("select $1::uuid, $2::boolean or false, null", id_, True)
    assert row is not None
    assert tuple(row) == (id_, True, None)
    assert await small.fetch_row("select 1 where $1::boolean", False) is None


async def test_connections_beyond_the_pool_are_closed_again(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bursty = settings.database.model_copy(update={"pool_size": 1, "max_overflow": 4})
    database = Database(bursty, application_name="bursty")
    rows = await asyncio.gather(*(database.fetch_row("select pg_sleep(0.1), $1::int", n) for n in range(5)))
    assert [row[1] for row in rows if row] == [0, 1, 2, 3, 4]
    assert database.engine.pool.status().startswith("Pool size: 1  Connections in pool: 1 Current Overflow: 0")
    assert caplog.records == []
    await database.dispose()


async def test_failures_surface_as_those_of_sessions(small: Database, db: Database) -> None:
    with pytest.raises(OperationalError) as missing:
        await small.fetch_row("select * from no_such_table")
    assert (missing.value.orig.sqlstate, missing.value.connection_invalidated) == ("42P01", False)  # type: ignore[union-attr]
    pid = await backend(small)
    waiting = asyncio.create_task(small.fetch_row("select pg_sleep(60)"))
    await until(partial(sleeps, db, pid))
    await end(db, pid)
    with pytest.raises(OperationalError) as lost:
        await waiting
    assert lost.value.orig.sqlstate in ("57P01", "08003")  # type: ignore[union-attr]
    assert await backend(small) != pid


async def test_a_canceled_read_gives_its_connection_back(small: Database, db: Database) -> None:
    for _ in range(3):
        pid = await backend(small)
        reading = asyncio.create_task(small.fetch_row("select pg_sleep(60)"))
        await until(partial(sleeps, db, pid))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert await small.fetch_row("select 1") is not None


@pytest.mark.parametrize("kind", ["pool", "session"])
async def test_the_server_notices_soon_that_a_client_has_vanished(
    small: Database, settings: Settings, kind: str
) -> None:
    names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"]
    query = f"select {', '.join(f'current_setting({name!r})' for name in names)}"
    if kind == "pool":
        row = await small.fetch_row(query)
    else:
        async with store.session(settings.database, "test") as connection:
            row = await connection.fetchrow(query)
    assert tuple(row or ()) == ("10", "5", "3", "20000")


async def test_without_a_server_the_failure_is_an_outage(settings: Settings) -> None:
    nowhere = settings.database.model_copy(
        update={"url": type(settings.database.url)("postgresql+asyncpg://x:y@127.0.0.1:1/x")}
    )
    database = Database(nowhere, application_name="nowhere")
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await database.fetch_row("select 1")
    await database.dispose()
