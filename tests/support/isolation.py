"""A corner of the shared servers that belongs to one pytest process: database, queues, keys, indexes, bucket."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pydantic import SecretStr
from sqlalchemy import RowMapping, make_url, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from core.settings import Settings
from models.migrations.runner import upgrade
from tests.support.stack import Servers
from tests.support.wait import until


def _in_database(url: str, database: str) -> SecretStr:
    return SecretStr(make_url(url).set(database=database).render_as_string(hide_password=False))


async def _execute(url: str, statement: str, **values: str) -> Sequence[RowMapping]:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            result = await connection.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else []
    finally:
        await engine.dispose()


async def drop_database(owner_url: str, name: str, *, patience: float = 60) -> None:
    """Drops a database. The owner may not end connections of another role: they get `patience` seconds to end, or the
    failure names them. (PostgreSQL's own autovacuum does end.)"""

    async def dropped() -> bool:
        try:
            await _execute(owner_url, f"drop database {name} with (force)")
        except ProgrammingError as error:
            if "permission denied to terminate process" not in str(error):
                raise
            return False
        return True

    try:
        await until(dropped, timeout=patience, every=0.2)
    except AssertionError as error:
        connected = "select application_name, usename, state from pg_stat_activity where datname = :name"
        users = [dict(row) for row in await _execute(owner_url, connected, name=name)]
        raise AssertionError(f"after {patience} s {name} is still used by {users}") from error


def _settings(servers: Servers, name: str) -> Settings:
    base = Settings(_env_file=servers.stack.env_file)
    database = base.database.model_copy(
        update={
            "url": _in_database(base.database.url.get_secret_value(), name),
            "owner_url": _in_database(base.database.owner_url.get_secret_value(), name),
        }
    )
    return base.model_copy(
        update={
            "environment": "test",
            "database": database,
            "redis": base.redis.model_copy(update={"prefix": name}),
            "rabbitmq": base.rabbitmq.model_copy(update={"prefix": name}),
            "temporal": base.temporal.model_copy(update={"task_queue_prefix": name}),
            "s3": base.s3.model_copy(update={"bucket": name.replace("_", "-")}),
            # A busy machine is not an outage, and making an index takes longest.
            "opensearch": base.opensearch.model_copy(update={"index_prefix": name, "timeout": 25.0}),
        }
    )


@asynccontextmanager
async def corner(servers: Servers) -> AsyncIterator[Settings]:
    """Settings with a new, migrated database and unique prefixes. The database is dropped at the end."""
    name = f"t_{secrets.token_hex(5)}"
    owner = servers.values()["LYCEUM_DATABASE__OWNER_URL"]
    await _execute(owner, f"create database {name}")
    try:
        settings = _settings(servers, name)
        await upgrade(settings.database.owner_url.get_secret_value())
        yield settings
    finally:
        await drop_database(owner, name)


def as_environment(settings: Settings) -> dict[str, str]:
    """`settings` as environment variables, for a process of ours that a test starts."""
    flat = {}
    for section, value in settings:
        if hasattr(value, "__pydantic_fields__"):
            for field, content in value:
                flat[f"LYCEUM_{section}__{field}".upper()] = _plain(content)
        else:
            flat[f"LYCEUM_{section}".upper()] = _plain(value)
    return flat


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
