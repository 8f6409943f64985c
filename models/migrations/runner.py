"""Runs the migrations over asyncpg, under a lock timeout and an advisory lock so that two runners take turns."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

_LOCK = 0x4C594345  # any constant shared by all runners


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def _run(connection: Connection, revision: str, *, down: bool) -> None:
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    connection.execute(text("set local lock_timeout = '5s'"))
    (command.downgrade if down else command.upgrade)(_config(connection), revision)


async def upgrade(owner_url: str, revision: str = "head") -> None:
    """Brings the database at `owner_url` (the schema owner) to `revision`, in one transaction."""
    await _migrate(owner_url, revision, down=False)


async def downgrade(owner_url: str, revision: str = "base") -> None:
    """Takes the schema back to `revision`; everything the dropped tables held is lost."""
    await _migrate(owner_url, revision, down=True)


async def _migrate(owner_url: str, revision: str, *, down: bool) -> None:
    engine = create_async_engine(owner_url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run, revision, down=down)
    finally:
        await engine.dispose()
