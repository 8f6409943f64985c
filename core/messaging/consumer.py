"""The idempotent consumer: `lyceum consume NAME`.

A consumer is a row in `core.messaging.topology.SUBSCRIPTIONS` (its name, module and events) and, in that module,

    @asynccontextmanager
    async def consumer(settings: Settings, db: Database) -> AsyncIterator[Handler]:
        async with some_client(settings) as client:
            yield External(partial(handle, client))

which opens what the handler needs and yields one of

`Transactional(handle)`  `await handle(session, envelope)`: everything it does is rows. They and the inbox row commit
                         together, so each event has its effect exactly once.
`External(handle)`       `await handle(envelope)`: it calls another system (search, Temporal). The inbox row is
                         written afterwards, so after a crash the same event comes again: the call must be idempotent.
                         It opens its own transactions and makes no call inside one.

Events of one subject arrive one after the other, in order; different subjects run side by side. What a handler raises
decides what happens next:

- `Poison`: the event can never be handled; it goes to the dead-letter queue at once.
- a transient error (network, time-out, database or a type named in `transient`): again after 0.2 s, doubling to 10 s,
  for as long as it takes; the subject's later events wait.
- anything else is taken for a bug: five attempts, then the dead-letter queue.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, cast

from sqlalchemy.ext.asyncio import AsyncSession

from core import health, runtime, telemetry
from core.db import Database
from core.messaging.envelope import Envelope
from core.messaging.topology import SUBSCRIPTIONS
from core.settings import Settings, get_settings


class Poison(Exception):
    """This event can never be handled: no attempt will do better."""


@dataclass(frozen=True, slots=True)
class Transactional:
    """A handler whose whole effect is rows; see the module's text."""

    handle: Callable[[AsyncSession, Envelope], Awaitable[None]]
    transient: tuple[type[Exception], ...] = ()


@dataclass(frozen=True, slots=True)
class External:
    """A handler that calls another system, idempotently; see the module's text."""

    handle: Callable[[Envelope], Awaitable[None]]
    transient: tuple[type[Exception], ...] = ()


Handler = Transactional | External


class _Module(Protocol):
    """What a subscription's module offers."""

    def consumer(self, settings: Settings, db: Database) -> AbstractAsyncContextManager[Handler]: ...


async def serve(name: str, settings: Settings, stop: asyncio.Event) -> None:
    """The consumer `name` with its health page."""
    from core.messaging.loop import ConsumerLoop

    subscription = SUBSCRIPTIONS[name]
    module = cast(_Module, importlib.import_module(subscription.module))
    db = Database(settings.database, application_name=f"lyceum-consume-{name}")
    try:
        async with module.consumer(settings, db) as handler:
            loop = ConsumerLoop(subscription, handler, db, settings.rabbitmq)
            async with health.serve(settings.telemetry, {"rabbitmq": loop.check, "postgresql": db.ping}):
                await loop.run(stop)
    finally:
        await db.dispose()


def run(name: str) -> None:
    """`lyceum consume NAME`."""
    if name not in SUBSCRIPTIONS:
        raise SystemExit(f"There is no consumer {name!r}; there are {', '.join(SUBSCRIPTIONS)}.")
    settings = get_settings()
    telemetry.setup(settings, f"consume-{name}")
    runtime.main(lambda stop: serve(name, settings, stop))
