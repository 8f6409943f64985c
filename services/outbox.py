"""Saying that something happened, in the same transaction as the change itself."""

from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import derived_id, new_id
from core.messaging.partitions import ASLEEP, CHANNEL, PARTITIONS
from core.telemetry import current_traceparent
from domain.contracts.events import Event

# NOTIFY makes every committing transaction queue up behind one lock, so it is sent only where the partition's relay
# sleeps: a sleeping relay holds the lock that is tried here, and looks at the table once more after taking it.
WAKE = f"""
case when not pg_try_advisory_xact_lock_shared({ASLEEP}, hashtext(subject) & {PARTITIONS - 1})
     then pg_notify('{CHANNEL}', '') end
"""
"""To be selected for each row that a statement adds to the outbox."""

_INSERT = text(
    f"""
    with added as (
      insert into outbox (id, type, subject, data, traceparent)
      values (:id, :type, :subject, :data, :traceparent)
      on conflict (id) do nothing
      returning subject
    )
    select {WAKE} from added
    """  # noqa: S608  (constants only)
).bindparams(bindparam("data", type_=JSONB()))


async def emit(session: AsyncSession, event: Event, *, key: str | None = None) -> UUID:
    """Adds `event` to the outbox and returns its id; it is published once the caller's transaction has committed.

    With `key` the id follows from the event's type and the key, and emitting it again changes nothing.
    """
    event_id = new_id() if key is None else derived_id(event.type, key)
    await session.execute(
        _INSERT,
        {
            "id": event_id,
            "type": event.type,
            "subject": event.subject,
            "data": event.model_dump(mode="json"),
            "traceparent": current_traceparent(),
        },
    )
    return event_id
