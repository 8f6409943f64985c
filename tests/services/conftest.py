"""Fixtures of the service tests."""

from collections.abc import AsyncIterator

import pytest

from core.db import Database
from core.settings import Settings
from tests.services.books import Books, database_of_its_own


@pytest.fixture(scope="session")
async def books_template(settings: Settings) -> AsyncIterator[Books]:
    """A migrated database nobody connects to: what the ledger's tests copy theirs from."""
    async with database_of_its_own(settings.database) as books:
        yield books


@pytest.fixture
async def books(settings: Settings, books_template: Books) -> AsyncIterator[Books]:
    """Empty books of this test's own."""
    async with database_of_its_own(settings.database, books_template) as copy:
        yield copy


@pytest.fixture
async def ledger_db(books: Books) -> AsyncIterator[Database]:
    """The application's connections to this test's books."""
    async with books.connected(pool_size=50) as database:
        yield database


@pytest.fixture(scope="module")
async def shared_books(settings: Settings, books_template: Books) -> AsyncIterator[Books]:
    """Books the tests of one module share: for what leaves nothing behind."""
    async with database_of_its_own(settings.database, books_template) as copy:
        yield copy
