"""Waiting for what happens elsewhere, instead of sleeping and hoping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], Awaitable[T | None]], *, timeout: float = 30.0, every: float = 0.02) -> T:
    """The first truthy answer of `condition`; fails after `timeout` seconds, naming the last answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"still {answer!r} after {timeout} s")
        await asyncio.sleep(every)
