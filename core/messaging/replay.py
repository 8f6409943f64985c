"""Publishes a range of past events once more: `lyceum events replay`.

The copies carry their old ids, so consumers that have handled them skip them; `force` makes them handle them again.
A consumer's name sends them to that queue only. Events older than the outbox's retention are gone.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
import typer

from core.messaging import broker, topology
from core.messaging.loop import EVERYONE, FORCE
from core.messaging.relay import message
from core.messaging.store import session
from core.settings import Settings, get_settings
from domain.contracts.events import EVENTS

_PAGE = 500

_RANGE = """
select seq, id, type, subject, data::text as data, traceparent, created_at
from outbox
where published_at is not null and seq > $1
  and ($2::bigint is null or seq >= $2) and ($3::bigint is null or seq <= $3)
  and ($4::timestamptz is null or created_at >= $4) and ($5::timestamptz is null or created_at <= $5)
  and type = any($6::text[])
order by seq
limit $7
"""


@dataclass(frozen=True, slots=True)
class Range:
    """Which events: all bounds inclusive, None is open. Sequence numbers are `outbox.seq`."""

    from_seq: int | None = None
    to_seq: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    type: str | None = None


async def replay(settings: Settings, wanted: Range, *, consumer: str | None = None, force: bool = False) -> int:
    """Publishes them in their order, each confirmed before the next; returns how many."""
    types = _types(wanted.type, consumer)
    headers = {FORCE: consumer or EVERYONE} if force else {}
    count = 0
    async with (
        broker.connect(settings.rabbitmq, "replay") as connection,
        session(settings.database, "replay") as database,
    ):
        channel = await connection.channel(publisher_confirms=True)
        exchange = await topology.declare_all(channel, settings.rabbitmq)
        queue = topology.queue_name(settings.rabbitmq, consumer) if consumer else None
        if queue:
            exchange = channel.default_exchange
        async for row in _rows(database, wanted, types):
            await exchange.publish(
                message(row, headers), routing_key=queue or row["type"], mandatory=False, timeout=broker.TIMEOUT
            )
            count += 1
    return count


def _types(kind: str | None, consumer: str | None) -> list[str]:
    """The types to publish: one or all, and of these only what the consumer subscribes to."""
    wanted = set(EVENTS) if kind is None else {kind}
    if consumer is not None:
        wanted &= {event.type for event in topology.SUBSCRIPTIONS[consumer].events}
    return sorted(wanted)


async def _rows(database: asyncpg.Connection, wanted: Range, types: list[str]) -> AsyncIterator[Any]:
    after = 0
    while rows := await database.fetch(
        _RANGE, after, wanted.from_seq, wanted.to_seq, wanted.since, wanted.until, types, _PAGE
    ):
        for row in rows:
            yield row
        after = rows[-1]["seq"]


def _utc(instant: datetime | None) -> datetime | None:
    return instant.replace(tzinfo=UTC) if instant and instant.tzinfo is None else instant


def run(
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    from_seq: int | None = None,
    to_seq: int | None = None,
    type: str | None = None,
    consumer: str | None = None,
    force: bool = False,
) -> None:
    """`lyceum events replay`."""
    if type is not None and type not in EVENTS:
        raise SystemExit(f"There is no event {type!r}; there are {', '.join(sorted(EVENTS))}.")
    if consumer is not None and consumer not in topology.SUBSCRIPTIONS:
        raise SystemExit(f"There is no consumer {consumer!r}; there are {', '.join(topology.SUBSCRIPTIONS)}.")
    if since is None and from_seq is None:
        raise SystemExit("Say where to begin: --since or --from-seq.")
    wanted = Range(from_seq=from_seq, to_seq=to_seq, since=_utc(since), until=_utc(until), type=type)
    count = asyncio.run(replay(get_settings(), wanted, consumer=consumer, force=force))
    typer.echo(f"{count} event{'' if count == 1 else 's'} published again.")
