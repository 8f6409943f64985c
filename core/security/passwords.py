"""Argon2id off the event loop, in a pool of `argon2_concurrency` threads: times `argon2_memory` KiB is its memory."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from core.settings import AuthSettings

T = TypeVar("T")


@cache
def common_passwords() -> frozenset[str]:
    """The most used passwords of at least eight characters, lower case (after zxcvbn's and Django's lists)."""
    return frozenset((files("core.security") / "common_passwords.txt").read_text("utf-8").split())


class Passwords:
    """Hashes and verifies. Callers beyond the concurrency wait their turn."""

    def __init__(self, settings: AuthSettings) -> None:
        self._hasher = PasswordHash(
            [Argon2Hasher(memory_cost=settings.argon2_memory, time_cost=settings.argon2_time, parallelism=1)]
        )
        self._threads = ThreadPoolExecutor(settings.argon2_concurrency, thread_name_prefix="argon2")
        self._decoy = self._hasher.hash("a password nobody has")

    async def hash(self, password: str) -> str:
        return await self._run(self._hasher.hash, password)

    async def verify(self, password: str, stored: str | None) -> tuple[bool, str | None]:
        """Whether it matches, and a stronger hash to store when the cost settings have changed since.

        Without a usable `stored` hash (an unknown address) it takes the same time and answers no.
        """
        return await self._run(self._verify, password, stored or "")

    def _verify(self, password: str, stored: str) -> tuple[bool, str | None]:
        if not Argon2Hasher.identify(stored):
            self._hasher.verify(password, self._decoy)
            return False, None
        return self._hasher.verify_and_update(password, stored)

    async def _run(self, function: Callable[..., T], *args: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
