"""The whole product as processes, each test module with a Stripe account and processes of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.db import Database
from core.settings import Settings
from deploy.setup import setup
from tests.support.product import Product, own_account, running
from tests.support.sandbox import Sandbox
from tests.support.shop import Shop

PROCESSES = ("api", "worker", "relay", "processes", "notifications")


@pytest.fixture(scope="module")
async def product(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Product]:
    home: Path = tmp_path_factory.mktemp("product")
    own = own_account(settings, home)
    await setup(own)
    sandbox = Sandbox(own)
    await sandbox.listen()
    await sandbox.aclose()
    async with running(own, home, PROCESSES) as product:
        yield product


@pytest.fixture(scope="module")
async def sandbox(product: Product) -> AsyncIterator[Sandbox]:
    control = Sandbox(product.settings)
    yield control
    await control.aclose()


@pytest.fixture(scope="module")
async def shop(product: Product, sandbox: Sandbox, db: Database) -> Shop:
    return Shop(product, sandbox, db)
