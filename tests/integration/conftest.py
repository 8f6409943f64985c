"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator

import pytest
import structlog

from core.settings import Settings
from tests.support.messaging import own_queues


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Log lines go to the standard library, where pytest collects them, without rendered tracebacks."""
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs], logger_factory=structlog.stdlib.LoggerFactory()
    )


@pytest.fixture
async def queues(settings: Settings) -> AsyncIterator[Settings]:
    """Settings whose RabbitMQ prefix belongs to this test; every queue is declared."""
    async with own_queues(settings) as fresh:
        yield fresh
