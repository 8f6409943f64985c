"""PostgreSQL sessions. The only module that commits: whoever opens a transaction here ends it here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.util.concurrency import greenlet_spawn

from core.settings import DatabaseSettings

# The last is what the driver says when the server goes away between two messages of a statement.
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

_PASSING_STATES = ("08", "25P03", "40", "53", "55P03", "57", "58")
"""SQLSTATEs: connection, rolled back by the server, out of resources, lock not available, intervention, I/O."""


def is_away(error: BaseException | None) -> bool:
    """Whether PostgreSQL does not answer or has given the statement up, so that trying again later may work.

    An `OSError`, which a refused connection is, may come from anywhere and is for the caller to judge.
    """
    if isinstance(error, DBAPIError):
        # The driver's own error is the cause of SQLAlchemy's translation of it.
        return error.connection_invalidated or is_away(error.orig) or is_away(getattr(error.orig, "__cause__", None))
    state = getattr(error, "sqlstate", None)
    if state:
        return str(state).startswith(_PASSING_STATES)
    misused = isinstance(error, ValueError)  # of the driver's errors those that are about arguments
    return isinstance(error, (PoolTimeout, asyncpg.InterfaceError, asyncpg.InternalClientError)) and not misused


KEEPALIVE = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
"""Server settings by which PostgreSQL notices within half a minute that our host is gone, and frees its locks."""


class Database:
    """One pool per process. `application_name` shows in `pg_stat_activity`."""

    def __init__(self, settings: DatabaseSettings, *, application_name: str) -> None:
        self.engine = create_async_engine(
            settings.url.get_secret_value(),
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.connect_timeout,
            hide_parameters=True,  # errors are logged, and parameters are people's data
            connect_args={
                "timeout": settings.connect_timeout,
                "command_timeout": settings.statement_timeout,
                "server_settings": {
                    **KEEPALIVE,
                    "application_name": application_name,
                    "statement_timeout": str(int(settings.statement_timeout * 1000)),
                    "idle_in_transaction_session_timeout": "30000",
                },
            },
        )
        # The driver knows when the server has closed a connection, so asking the server (pool_pre_ping: three round
        # trips, more than most transactions take) would tell nothing new.
        event.listen(self.engine.sync_engine, "checkout", _refuse_closed)
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        readers = self.engine.execution_options(postgresql_readonly=True)
        self._readers = async_sessionmaker(readers, expire_on_commit=False)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work commits when the block ends and rolls back when it raises."""
        async with self._sessions() as session:
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for reading; PostgreSQL refuses writes in it. It connects at its first statement."""
        async with self._readers() as session:
            yield session  # closing rolls back and, unlike rollback(), leaves what was loaded readable

    async def fetch_row(self, statement: str, *arguments: object) -> Any | None:
        """The first row that PostgreSQL's own SQL (`$1`, `$2`, …) answers, or None.

        It runs by itself on the driver's connection and takes a fifth of what a session takes: meant for the few
        statements that are most of the traffic. One that writes is a transaction of its own. Failures surface as
        SQLAlchemy's, like those of sessions.
        """
        try:
            connection = await self.engine.raw_connection()
            try:
                row = await connection.driver_connection.fetchrow(statement, *arguments)  # type: ignore[union-attr]
            finally:
                # Also when canceled: the driver cancels the statement and its next user waits for that.
                await greenlet_spawn(connection.close)
        except (*_DRIVER_ERRORS, self.engine.dialect.loaded_dbapi.Error) as error:
            raise OperationalError(statement, None, error) from error
        return row

    async def ping(self) -> None:
        """Raises unless PostgreSQL answers."""
        async with self.read() as session:
            await session.execute(text("select 1"))

    async def dispose(self) -> None:
        await self.engine.dispose()


def _refuse_closed(connection: Any, *_: object) -> None:
    """Makes the pool replace a connection that was closed while it lay there."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server")
