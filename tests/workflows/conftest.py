"""One server for all tests of workflows, another one that suggests to continue as new early."""

from collections.abc import AsyncIterator

import pytest

from tests.workflows.lab import Clock, Lab, lab
from tests.workflows.world import World
from workflows.gateway import ProcessGateway


@pytest.fixture(scope="session", name="lab")
async def _lab() -> AsyncIterator[Lab]:
    async with lab() as fresh:
        yield fresh


@pytest.fixture(scope="session")
async def short_histories() -> AsyncIterator[Lab]:
    """Continue-as-new is suggested after 30 events."""
    async with lab("short", limit__historyCount__suggestContinueAsNew=30) as fresh:
        yield fresh


@pytest.fixture(scope="session")
def clock(lab: Lab) -> Clock:
    return lab.clock


@pytest.fixture(scope="session")
def gateway(lab: Lab) -> ProcessGateway:
    return lab.gateway


@pytest.fixture(scope="session")
def world(lab: Lab) -> World:
    return lab.world
