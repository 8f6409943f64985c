"""PostgreSQL sessions. The only module that commits: whoever opens a transaction here ends it here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from core.settings import DatabaseSettings


class Database:
    """One pool per process. `application_name` shows in `pg_stat_activity`."""

    def __init__(self, settings: DatabaseSettings, *, application_name: str) -> None:
        self.engine = create_async_engine(
            settings.url.get_secret_value(),
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.connect_timeout,
            pool_pre_ping=True,
            connect_args={
                "timeout": settings.connect_timeout,
                "command_timeout": settings.statement_timeout,
                "server_settings": {
                    "application_name": application_name,
                    "statement_timeout": str(int(settings.statement_timeout * 1000)),
                    "idle_in_transaction_session_timeout": "30000",
                },
            },
        )
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

    async def ping(self) -> None:
        """Raises unless PostgreSQL answers."""
        async with self.read() as session:
            await session.execute(text("select 1"))

    async def dispose(self) -> None:
        await self.engine.dispose()
