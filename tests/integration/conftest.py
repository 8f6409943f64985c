"""Fixtures of the tests that need real servers."""

from collections.abc import AsyncIterator

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import func, update

from core.db import Database
from core.integrations.stripe import StripeGateway
from core.settings import Settings, StripeSettings
from models.messaging import OutboxEvent
from models.notification import Notification
from tests.integration.stripe_sandbox import KEY, Served, serve
from tests.support.messaging import own_queues


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Log lines go to the standard library, where pytest collects them, without rendered tracebacks."""
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs], logger_factory=structlog.stdlib.LoggerFactory()
    )


@pytest.fixture
async def queues(settings: Settings, db: Database) -> AsyncIterator[Settings]:
    """Settings whose RabbitMQ prefix belongs to this test; every queue is declared, and only this test's events come.

    What earlier tests emitted and nobody relayed would else be the first thing a relay or consumer meets, and their
    mails the first that are sent.
    """
    async with db.transaction() as session:
        waiting = update(OutboxEvent).where(OutboxEvent.published_at.is_(None))
        await session.execute(waiting.values(published_at=func.now()))
        await session.execute(update(Notification).values(mail_due_at=None))
    async with own_queues(settings) as fresh:
        yield fresh


@pytest.fixture
async def sandbox() -> AsyncIterator[Served]:
    """A Stripe sandbox of the test's own that knows each balance transaction at once."""
    async with serve() as served:
        await served.control("PUT", "/settings", {"balance_transaction_delay": 0})
        yield served


@pytest.fixture
async def gateway(sandbox: Served) -> AsyncIterator[StripeGateway]:
    """The product's client to that sandbox."""
    found = StripeGateway(StripeSettings(secret_key=SecretStr(KEY), api_base=sandbox.url, timeout=10))
    yield found
    await found.aclose()
