"""The corners of the servers that tests work in."""

import pytest
from sqlalchemy import make_url

from core.db import Database
from tests.support import isolation
from tests.support.stack import Servers


async def test_a_database_that_cannot_be_dropped_says_who_is_connected(servers: Servers) -> None:
    async with isolation.corner(servers) as settings:
        lingering = Database(settings.database, application_name="lingering")
        await lingering.ping()
        name = make_url(settings.database.url.get_secret_value()).database
        owner = servers.values()["LYCEUM_DATABASE__OWNER_URL"]
        with pytest.raises(AssertionError, match="'application_name': 'lingering', 'usename': 'lyceum'"):
            await isolation.drop_database(owner, str(name), patience=0.5)
        await lingering.dispose()
