"""Counting attempts on Valkey, and in this process while Valkey is away."""

import hashlib
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from core.cache import Breaker

_COOLDOWN = 5.0


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `attempts` per key within `window` seconds."""

    scope: str
    attempts: int
    window: int

    def item(self) -> RateLimitItem:
        return RateLimitItemPerSecond(self.attempts, self.window, namespace=self.scope)


class Throttle:
    """Sliding windows. Keys are stored hashed because they hold addresses."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        pool: Any = redis.connection_pool  # the storage's own annotation knows plain options only
        shared = RedisStorage("redis://", implementation="redispy", key_prefix=f"{prefix}:limit", connection_pool=pool)
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._breaker = Breaker(_COOLDOWN)

    async def hit(self, limit: Limit, *key: str) -> bool:
        """Counts an attempt; False when the limit was reached already."""
        item, name = limit.item(), _digest(key)
        allowed = await self._breaker.run(lambda: self._shared.hit(item, name), otherwise=None)
        return await self._local.hit(item, name) if allowed is None else allowed

    async def allows(self, limit: Limit, *key: str) -> bool:
        """Whether one more attempt would be allowed; counts nothing."""
        item, name = limit.item(), _digest(key)
        allowed = await self._breaker.run(lambda: self._shared.test(item, name), otherwise=None)
        return await self._local.test(item, name) if allowed is None else allowed

    async def forgive(self, limit: Limit, *key: str) -> None:
        """Takes a counted attempt back."""
        item, name = limit.item(), _digest(key)
        done = await self._breaker.run(lambda: self._shared.hit(item, name, cost=-1), otherwise=None)
        if done is None:
            await self._local.hit(item, name, cost=-1)


def _digest(key: tuple[str, ...]) -> str:
    return hashlib.sha256("\x00".join(key).encode()).hexdigest()[:32]
