"""Migrations: they make exactly what the models say, each can be undone, and the application may do little."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import models
from core.db import Database
from core.ids import new_id
from core.settings import Settings
from models.migrations import runner
from tests.support.isolation import drop_database

REVISIONS = ["0001", "0002", "0003", "0004", "0005", "0006"]


@pytest.fixture
async def empty(settings: Settings) -> AsyncIterator[str]:
    """The owner's address of a new database without anything in it."""
    owner = make_url(settings.database.owner_url.get_secret_value())
    name = f"m_{new_id().hex}"
    admin = create_async_engine(owner, isolation_level="AUTOCOMMIT")
    async with admin.connect() as connection:
        await connection.execute(text(f"create database {name}"))
    try:
        yield owner.set(database=name).render_as_string(hide_password=False)
    finally:
        await admin.dispose()
        await drop_database(settings.database.owner_url.get_secret_value(), name)


@pytest.fixture
async def engine(empty: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(empty)
    yield engine
    await engine.dispose()


def _drift(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    found: list[Any] = compare_metadata(context, models.Base.metadata)
    return found


async def drift(engine: AsyncEngine) -> list[Any]:
    """What Alembic would change to make the database what the models say."""
    async with engine.connect() as connection:
        return await connection.run_sync(_drift)


async def schema(engine: AsyncEngine) -> dict[str, list[str]]:
    """Everything the migrations made: columns, constraints, indexes, triggers, functions, rights."""
    queries = {
        "columns": "select table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || ' '"
        " || coalesce(column_default, '') || ' ' || is_identity from information_schema.columns"
        " where table_schema = 'public'",
        "constraints": "select conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)"
        " from pg_constraint where connamespace = 'public'::regnamespace",
        "indexes": "select indexdef from pg_indexes where schemaname = 'public'",
        "triggers": "select pg_get_triggerdef(oid) from pg_trigger where not tgisinternal",
        "functions": "select pg_get_functiondef(p.oid) from pg_proc p where pronamespace = 'public'::regnamespace"
        " and prokind = 'f' and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')",
        "rights": "select table_name || ' ' || privilege_type || ' to ' || grantee"
        " from information_schema.table_privileges where table_schema = 'public' and grantee = 'lyceum_app'",
    }
    async with engine.connect() as connection:
        return {name: sorted((await connection.scalars(text(query))).all()) for name, query in queries.items()}


def test_the_chain_is_linear() -> None:
    scripts = ScriptDirectory(str(Path(runner.__file__).parent))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == REVISIONS
    assert scripts.get_heads() == [REVISIONS[-1]]


async def test_migrations_make_what_the_models_say(empty: str, engine: AsyncEngine) -> None:
    await runner.upgrade(empty)
    assert await drift(engine) == []


async def test_every_step_can_be_undone_and_taken_again(empty: str, engine: AsyncEngine) -> None:
    stages = []
    for revision in REVISIONS:
        await runner.upgrade(empty, revision)
        stages.append(await schema(engine))
    for revision, stage in zip(REVISIONS[-2::-1], stages[-2::-1], strict=True):
        await runner.downgrade(empty, revision)
        assert await schema(engine) == stage, revision
    await runner.downgrade(empty)
    left = await schema(engine)
    assert left.pop("columns") == ["alembic_version.version_num character varying NO  NO"]
    assert [row for rows in left.values() for row in rows if "alembic_version" not in row] == []
    await runner.upgrade(empty)
    assert await schema(engine) == stages[-1]
    await runner.upgrade(empty)
    assert await schema(engine) == stages[-1]


@pytest.mark.parametrize("table", ["ledger_transactions", "ledger_entries", "timeline_entries"])
@pytest.mark.parametrize("change", ["update {} set id = id", "delete from {}", "truncate {} cascade"])
async def test_the_application_cannot_change_what_is_written_once(db: Database, table: str, change: str) -> None:
    statement = change.format(table).replace("ledger_entries set id = id", "ledger_entries set amount = amount")
    with pytest.raises(DBAPIError, match=f"permission denied for table {table}"):
        async with db.transaction() as session:
            await session.execute(text(statement))


async def test_the_application_does_not_own_the_schema(db: Database) -> None:
    for statement in ("create table mine (id int)", "alter table orders add column mine int", "drop table orders"):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            async with db.transaction() as session:
                await session.execute(text(statement))
