"""Databases of their own for the ledger's tests, and what to post to them.

The rows of the ledger cannot be removed again, and its checks read all of them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from core.db import Database
from core.settings import DatabaseSettings
from domain import ledger as postings
from domain.ledger import Posting, Settlement
from domain.pricing import split
from models.migrations import runner
from services import ledger
from services.ledger import PostedTransaction
from services.ledger_checks import CHECKS, find_breaks
from tests.support.isolation import drop_database

CREATORS = tuple(UUID(int=number) for number in range(1, 5))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WITHOUT_SUBLEDGERS = [check for check in CHECKS if check not in ("earnings_totals", "payment_totals")]


@dataclass(frozen=True)
class Books:
    """One migrated database with a few creators in it. `name` is unique on the server."""

    settings: DatabaseSettings
    name: str

    def _url(self, secret: SecretStr) -> str:
        return make_url(secret.get_secret_value()).set(database=self.name).render_as_string(hide_password=False)

    @property
    def owner_url(self) -> str:
        return self._url(self.settings.owner_url)

    @asynccontextmanager
    async def connected(self, *, as_owner: bool = False, pool_size: int = 5) -> AsyncIterator[Database]:
        """A pool on this database as the application's role, or as the owner of the schema."""
        url = self.owner_url if as_owner else self._url(self.settings.url)
        settings = self.settings.model_copy(update={"url": SecretStr(url), "pool_size": pool_size})
        database = Database(settings, application_name="tests")
        try:
            yield database
        finally:
            await database.dispose()


async def _as_owner(settings: DatabaseSettings, statement: str) -> None:
    engine = create_async_engine(settings.owner_url.get_secret_value(), isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()


@asynccontextmanager
async def database_of_its_own(settings: DatabaseSettings, template: Books | None = None) -> AsyncIterator[Books]:
    """A new database, migrated or copied from `template`, dropped at the end. Nobody may be connected to a template."""
    books = Books(settings, f"{template.name if template else 'books'}_{uuid4().hex[:12]}")
    await _as_owner(settings, f"create database {books.name}" + (f" template {template.name}" if template else ""))
    try:
        if template is None:
            await runner.upgrade(books.owner_url)
            async with books.connected(as_owner=True) as database, database.transaction() as session:
                # Earnings are tested here without the courses and orders they come from.
                await session.execute(text("alter table earnings drop constraint fk_earnings_order_line_id"))
                await session.execute(
                    text("insert into users (id, email, name, password_hash) values (:id, :email, :email, '')"),
                    [{"id": creator, "email": f"{creator}@example.org"} for creator in CREATORS],
                )
        yield books
    finally:
        await drop_database(settings.owner_url.get_secret_value(), books.name)


def sale(
    order_id: UUID | None = None, gross: int = 4249, creator: UUID = CREATORS[0], currency: str = "usd"
) -> Posting:
    shares = split(gross, platform_bps=3000, creators={creator: 1})
    return postings.sale(order_id=order_id or uuid4(), gross=gross, currency=currency, shares=shares)


def settle(charge: str = "ch_1", gross: int = 4249, balance_txn: str = "txn_1") -> Posting:
    settlement = Settlement(balance_txn, "usd", gross, 153, gross - 153, NOW)
    [posting] = postings.settle(charge=charge, order_id=uuid4(), gross=gross, currency="usd", settlement=settlement)
    return posting


async def post(session: AsyncSession, posting: Posting) -> PostedTransaction:
    return await ledger.post(session, posting, actor="test", occurred_at=NOW, workflow_id="order-1")


async def post_alone(db: Database, posting: Posting) -> PostedTransaction:
    async with db.transaction() as session:
        return await post(session, posting)


async def counts(db: Database) -> tuple[int, int]:
    async with db.read() as session:
        row = await session.execute(
            text("select (select count(*) from ledger_transactions), (select count(*) from ledger_entries)")
        )
        transactions, entries = row.one()
        return transactions, entries


async def assert_sound(db: Database) -> None:
    async with db.read() as session:
        assert await find_breaks(session, WITHOUT_SUBLEDGERS) == []
