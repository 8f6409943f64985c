"""Small caches: one on Valkey that may go away at any time (slower answers, never wrong or missing ones), and one of
the process for what may be a little old."""

import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from core import logs
from core.settings import RedisSettings

T = TypeVar("T")
U = TypeVar("U")

log = logs.get_logger(__name__)
_ABSENT_URL = "redis://127.0.0.1:1"  # no cache configured: every command fails at once and callers do without


def connect(settings: RedisSettings) -> Redis:
    """A client that connects on first use and gives a command up after `settings.timeout`."""
    client: Redis = Redis.from_url(
        settings.url.get_secret_value() or _ABSENT_URL,
        socket_timeout=settings.timeout,
        socket_connect_timeout=settings.timeout,
        retry=None,
    )
    return client


class Breaker:
    """Runs commands on Valkey; after a failure it refuses for `cooldown` seconds, so that requests do not queue up
    behind a server that does not answer."""

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._closed_until = 0.0

    async def run(self, command: Callable[[], Coroutine[Any, Any, T]], *, otherwise: U) -> T | U:
        """The command's result, or `otherwise` while Valkey is away."""
        if time.monotonic() < self._closed_until:
            return otherwise
        try:
            return await command()
        except (RedisError, OSError) as error:
            self._closed_until = time.monotonic() + self._cooldown
            log.warning("cache unavailable", error=type(error).__name__, retry_in=self._cooldown)
            return otherwise


class Recent:
    """Up to `size` entries of this process, each for `ttl` seconds; the oldest go first. For what may be a little old:
    what another process stores or changes is not seen."""

    def __init__(self, *, size: int, ttl: float) -> None:
        self._size, self._ttl = size, ttl
        self._entries: dict[str, tuple[float, bytes]] = {}

    def get(self, key: str) -> bytes | None:
        """The entry while it is recent."""
        stored_at, value = self._entries.get(key, (-math.inf, b""))
        return value if time.monotonic() - stored_at < self._ttl else None

    def put(self, key: str, value: bytes) -> None:
        """Stores an entry as the newest."""
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = time.monotonic(), value


class Cache:
    """Entries of at most `ttl` seconds under `{prefix}:{name}:`.

    A reader fills only what is absent (`fill`); a writer leaves a mark that blocks filling (`forget`), so a value read
    before a change cannot be stored after it. The cooldown is the ttl: nothing stored before an outage is believed
    after it.
    """

    def __init__(self, redis: Redis, prefix: str, name: str, *, ttl: int) -> None:
        self._redis = redis
        self._prefix = f"{prefix}:{name}:"
        self._ttl = ttl
        self._breaker = Breaker(cooldown=ttl)

    async def get(self, key: str) -> bytes | None:
        """The entry, or None when it is absent, marked as changed, or Valkey is away."""

        async def command() -> bytes | None:
            value = await self._redis.get(self._prefix + key)
            return value if isinstance(value, bytes) else None

        return await self._breaker.run(command, otherwise=None) or None

    async def fill(self, key: str, value: bytes) -> None:
        """Stores what a reader found, unless somebody was faster or has marked it as changed."""

        async def command() -> None:
            await self._redis.set(self._prefix + key, value, ex=self._ttl, nx=True)

        await self._breaker.run(command, otherwise=None)

    async def forget(self, *keys: str) -> None:
        """Marks the entries as changed. To be called once the change is committed."""

        async def command() -> None:
            for key in keys:
                await self._redis.set(self._prefix + key, b"", ex=self._ttl)

        await self._breaker.run(command, otherwise=None)
