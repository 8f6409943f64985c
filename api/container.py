"""What one API process holds: settings and clients, each connecting on first use so that none stops the start."""

from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis

from api.pokes import Pokes
from core import cache
from core.db import Database
from core.health import Check
from core.integrations.s3 import ObjectStorage, S3Storage
from core.security.passwords import Passwords
from core.security.throttle import Throttle
from core.security.tokens import Tokens
from core.settings import Settings
from search.client import SearchClient
from services import stripe_events
from services.access import Access
from workflows.gateway import ProcessGateway

_SEARCH_TTL = 2
"""Seconds for which the answer to a search is given again."""
_SEARCHES = 500
"""Answers kept; each is some 10 kB."""


@dataclass(slots=True)
class AppContainer:
    settings: Settings
    db: Database
    redis: Redis
    passwords: Passwords
    tokens: Tokens
    throttle: Throttle
    access: Access
    search: SearchClient
    searches: cache.Recent
    s3: ObjectStorage
    gateway: ProcessGateway
    pokes: Pokes

    @classmethod
    def build(cls, settings: Settings) -> "AppContainer":
        """Connects to nothing yet. Raises `ValueError` when settings themselves cannot work (no signing key)."""
        db = Database(settings.database, application_name="lyceum-api")
        redis = cache.connect(settings.redis)
        gateway = ProcessGateway(settings)
        return cls(
            settings=settings,
            db=db,
            redis=redis,
            passwords=Passwords(settings.auth),
            tokens=Tokens(settings.auth),
            throttle=Throttle(redis, settings.redis.prefix),
            access=Access(db, redis, settings.redis.prefix),
            search=SearchClient(settings.opensearch),
            searches=cache.Recent(size=_SEARCHES, ttl=_SEARCH_TTL),
            s3=S3Storage(settings.s3),
            gateway=gateway,
            pokes=Pokes(gateway.poke, partial(stripe_events.mark_dispatched, db)),
        )

    def checks(self) -> dict[str, Check]:
        """What `/readyz` looks at."""

        async def cache_answers() -> None:
            await self.redis.ping()

        return {
            "database": self.db.ping,
            "cache": cache_answers,
            "search": self.search.ping,
            "object_storage": self.s3.ping,
            "temporal": self.gateway.ping,
        }

    async def aclose(self) -> None:
        await self.search.close()
        await self.redis.aclose()
        await self.db.dispose()
