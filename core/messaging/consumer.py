"""The idempotent consumer: what its module offers (`core.messaging.loop` runs it).

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

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from core.messaging.envelope import Envelope


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
