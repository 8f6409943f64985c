"""Fixtures every test may use.

`servers`   real servers (PostgreSQL, Valkey, RabbitMQ, Temporal, S3, OpenSearch, mail catcher, Stripe sandbox) below
            `.lyceum/test`, on ports of their own; started by the first test that asks, reused while they are up.
`settings`  a `Settings` for this pytest process: a fresh, migrated database and prefixes nobody else uses.
`db`        a `core.db.Database` on it, as the application's role.
`mailbox`   what the mail catcher got.

The servers are stopped when the session that started them ends. `LYCEUM_TEST_KEEP_STACK=1` leaves them running for the
next session; `python -m tests.support.stack up|down|status|restart SERVICE` does it by hand. Tests share the servers
and never a database, queue, index or bucket. Nothing may connect beyond loopback.
"""

import os
from collections.abc import AsyncIterator, Iterator

import hypothesis
import pytest

os.environ["LYCEUM_ENV_FILE"] = os.devnull  # a developer's own stack must not leak into a test
os.environ["LYCEUM_ENVIRONMENT"] = "test"

from core.db import Database
from core.settings import Settings
from deploy.local.stack import Stack
from tests.support import isolation, loopback
from tests.support.mail import Mailbox
from tests.support.stack import Servers

loopback.forbid_the_rest()

hypothesis.settings.register_profile("lyceum", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("lyceum")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The controller stops what any worker of its session started."""
    if not hasattr(session.config, "workerinput"):
        Servers().release(os.getpid())


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Servers:
    """The shared servers, running."""
    shared = Servers()
    shared.acquire(os.getppid() if hasattr(request.config, "workerinput") else os.getpid())
    return shared


@pytest.fixture(scope="session")
def stack(servers: Servers) -> Stack:
    return servers.stack


@pytest.fixture(scope="session")
async def settings(servers: Servers) -> AsyncIterator[Settings]:
    """This session's own corner of the servers; dropped afterwards."""
    async with isolation.corner(servers) as fresh:
        yield fresh


@pytest.fixture(scope="session")
async def db(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.database, application_name="tests")
    yield database
    await database.dispose()


@pytest.fixture
def mailbox(servers: Servers) -> Iterator[Mailbox]:
    with Mailbox(f"http://127.0.0.1:{servers.port('mail')}") as box:
        yield box
