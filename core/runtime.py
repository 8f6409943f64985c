"""What long-running processes share: signals, waiting that can be interrupted, doing it again, back-off."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop

from core import logs

log = logs.get_logger(__name__)

_STEADY = 10.0
"""Seconds of work after which the next failure is a new one."""


class Backoff:
    """Delays in seconds, doubling from `first` to `most`."""

    def __init__(self, first: float, most: float) -> None:
        self._first = self._next = first
        self._most = most

    def next(self) -> float:
        delay = self._next
        self._next = min(delay * 2, self._most)
        return delay

    def reset(self) -> None:
        self._next = self._first


async def wait(event: asyncio.Event, timeout: float) -> bool:
    """Whether `event` was set within `timeout` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
    return event.is_set()


async def keep(
    work: Callable[[], Awaitable[None]], stop: asyncio.Event, failed: Callable[[Exception, float], None]
) -> None:
    """Runs `work` until `stop`, again whenever it raises, after 0.2 s doubling to 5 s.

    `failed(error, delay)` hears of each failure; there is nobody above to give up to.
    """
    backoff = Backoff(0.2, 5.0)
    while not stop.is_set():
        started = time.monotonic()
        try:
            await work()
        except Exception as error:
            if time.monotonic() - started > _STEADY:
                backoff.reset()
            delay = backoff.next()
            failed(error, delay)
            await wait(stop, delay)


async def every(
    seconds: float,
    stop: asyncio.Event,
    work: Callable[[], Awaitable[object]],
    failed: Callable[[Exception], None],
) -> None:
    """Runs `work` until `stop`, each time `seconds` after it ended; `failed` hears of what it raises."""
    while not stop.is_set():
        try:
            await work()
        except Exception as error:
            failed(error)
        await wait(stop, seconds)


async def when(event: asyncio.Event, then: Callable[[], None]) -> None:
    """Calls `then` once `event` is set."""
    await event.wait()
    then()


def main(serve: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Runs `serve(stop)` to its end; SIGTERM and SIGINT set `stop`."""

    async def supervised() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await serve(stop)
        log.info("stopped")

    uvloop.run(supervised())
