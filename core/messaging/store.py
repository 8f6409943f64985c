"""The relay's side of the outbox: one PostgreSQL session that owns partitions, reads, marks, waits and prunes.

It speaks asyncpg directly: advisory locks and LISTEN belong to a session, which a pool would take away. Every
statement is its own transaction, so nothing is locked while RabbitMQ is spoken to.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from core import runtime
from core.db import KEEPALIVE
from core.messaging.partitions import ASLEEP, CHANNEL, MEMBER, OWNER, PARTITIONS
from core.settings import DatabaseSettings

_MEMBERS = """
select count(*) from pg_locks
where locktype = 'advisory' and classid = $1 and objid = 0 and objsubid = 2 and granted
  and database = (select oid from pg_database where datname = current_database())
"""

_PENDING = """
select seq, id, type, subject, data::text as data, traceparent, created_at
from outbox
where published_at is null and (hashtext(subject) & $1) = any($2::int[])
order by seq
limit $3
"""

_TRY = "select p from unnest($2::int[]) p where pg_try_advisory_lock($1, p)"
_UNLOCK = "select pg_advisory_unlock($1, p) from unnest($2::int[]) p"

_PRUNE = """
with oldest as (select seq, published_at from outbox order by seq limit $2)
delete from outbox using oldest
where outbox.seq = oldest.seq and oldest.published_at < now() - make_interval(days => $1)
"""

_PRUNE_INBOX = """
delete from inbox where ctid = any(array(
  select ctid from inbox where handled_at < now() - make_interval(days => $1) order by handled_at limit $2))
"""


@asynccontextmanager
async def session(settings: DatabaseSettings, name: str) -> AsyncIterator[asyncpg.Connection]:
    """One PostgreSQL connection outside the pool."""
    connection = await asyncpg.connect(
        settings.url.get_secret_value().replace("+asyncpg", ""),
        timeout=settings.connect_timeout,
        command_timeout=settings.statement_timeout,
        server_settings={**KEEPALIVE, "application_name": f"lyceum-{name}"},
    )
    try:
        yield connection
    finally:
        # A connection that broke cannot be closed politely, and the reason it broke is already on its way up.
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await connection.close(timeout=2)
        connection.terminate()


class OutboxStore:
    """The partitions this relay owns and the events in them."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._owned: set[int] = set()
        self._asleep: set[int] = set()
        self._woken = asyncio.Event()

    @property
    def owned(self) -> frozenset[int]:
        """The partitions nobody else publishes while this session lives."""
        return frozenset(self._owned)

    @property
    def dozing(self) -> bool:
        """Whether every emitter will notify."""
        return self._asleep >= self._owned

    async def join(self) -> None:
        """Counts itself among the relays and listens for wake-ups."""
        await self._connection.execute("select pg_advisory_lock_shared($1, 0)", MEMBER)
        await self._connection.add_listener(CHANNEL, self.wake)
        self._connection.add_termination_listener(self.wake)

    def wake(self, *_: object) -> None:
        """Ends the present or next `notified`."""
        self._woken.set()

    async def rebalance(self) -> None:
        """Takes or gives back partitions until this relay has no more than its fair share."""
        members = await self._connection.fetchval(_MEMBERS, MEMBER)
        share = -(-PARTITIONS // max(members, 1))
        surplus = sorted(self._owned)[share:]
        if surplus:
            await self._release(OWNER, surplus)
            self._owned -= set(surplus)
            await self._awake(set(surplus))
        for partition in sorted(set(range(PARTITIONS)) - self._owned):
            if len(self._owned) >= share:
                break
            self._owned.update(await self._try(OWNER, [partition]))

    async def pending(self, limit: int) -> Sequence[Any]:
        """The oldest unpublished events of the owned partitions, in order."""
        rows: Sequence[Any] = await self._connection.fetch(_PENDING, PARTITIONS - 1, sorted(self._owned), limit)
        if rows:
            await self._awake(self._asleep)
        return rows

    async def mark_published(self, seqs: list[int]) -> None:
        await self._connection.execute("update outbox set published_at = now() where seq = any($1::bigint[])", seqs)

    async def doze(self) -> bool:
        """Asks whoever emits next to notify. False: not yet sure to be notified, look at the table (again) first."""
        new = self._owned - self._asleep
        if not new:
            return True
        self._asleep.update(await self._try(ASLEEP, sorted(new)))
        return False

    async def notified(self, timeout: float) -> None:
        """Waits for a notification, the end of the connection, or `timeout` seconds."""
        await runtime.wait(self._woken, timeout)
        self._woken.clear()

    async def prune(self, days: int, batch: int = 5000) -> int:
        """Deletes up to `batch` of the events published longer ago, and returns how many rows went.

        So it does with what was handled a day longer ago: nothing that old is delivered or replayed any more.
        """
        deleted = 0
        for statement, age in ((_PRUNE, days), (_PRUNE_INBOX, days + 1)):
            deleted += int((await self._connection.execute(statement, age, batch)).split()[-1])
        return deleted

    async def _try(self, lock: int, partitions: list[int]) -> set[int]:
        return {row["p"] for row in await self._connection.fetch(_TRY, lock, partitions)}

    async def _release(self, lock: int, partitions: Sequence[int]) -> None:
        await self._connection.execute(_UNLOCK, lock, list(partitions))

    async def _awake(self, partitions: set[int]) -> None:
        awake = partitions & self._asleep
        if awake:
            await self._release(ASLEEP, sorted(awake))
            self._asleep -= awake
