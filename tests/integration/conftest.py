"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator

import pytest

from core.settings import Settings
from tests.support.messaging import own_queues


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose RabbitMQ prefix belongs to this test; every queue is declared."""
    async with own_queues(settings) as fresh:
        yield fresh
