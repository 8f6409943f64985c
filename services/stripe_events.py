"""The inbox of Stripe's webhooks: stored before they are acted upon, dispatched at least once."""

import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from core.integrations.stripe import WebhookEvent
from core.integrations.stripe.states import instant_of
from domain.stripe_events import concerns
from models.payment import StripeEvent

_ATTEMPT = "[0-9]{1,4}"
"""How we number Checkout Sessions; another application of the same Stripe account may say anything."""

Target = tuple[str, UUID]
"""The kind and the subject of a process."""

_STORE = """
with known as (
  select $5::text as kind, $6::uuid as subject
  where case $5 when 'order' then exists (select from orders where id = $6)
                when 'refund' then exists (select from refunds where id = $6) end
), taught as (
  select from payments
  where order_id = $6 and $4 in (stripe_session, stripe_payment_intent, stripe_charge)
    and booked_at is not null and (settled_at is not null or $3 <> 'charge.updated')
), stored as (
  insert into stripe_events (id, account, type, object_id, process_kind, process_subject, created, payload,
                             dispatched_at)
  select $1, $2, $3, $4, (select kind from known), (select subject from known), $7, $8,
         case when exists (select from taught) then now() end
  on conflict do nothing
  returning process_kind as kind, process_subject as subject, dispatched_at
), learned as (
  insert into checkout_sessions (stripe_session, order_id, n, url, expires_at)
  select $4, subject, $9::int, $10::text, $11::timestamptz from stored where kind = 'order' and $9 is not null
  on conflict do nothing
)
select kind, subject from stored where kind is not null and dispatched_at is null
"""


async def store(db: Database, event: WebhookEvent) -> Target | None:
    """Keeps a verified event; the process to poke, or None when there is nothing (new) to tell one.

    One statement that is its own transaction. Events of another environment that shares the Stripe account are kept
    and ignored. A Checkout Session whose creation was never answered is learned from its event, to be read at Stripe.
    An event about a payment that is booked teaches nothing more and counts as dispatched, unless it is the one that
    comes with the balance transaction.
    """
    kind, subject = concerns(event.type, event.data) or (None, None)
    row = await db.fetch_row(
        _STORE,
        event.id,
        event.account,
        event.type,
        event.object_id,
        kind,
        subject,
        event.created,
        json.dumps(event.data),
        *_session_of(event),
    )
    return (row["kind"], row["subject"]) if row else None


def _session_of(event: WebhookEvent) -> tuple[int | None, str, datetime | None]:
    """Number, page and end of the Checkout Session the event is about, if we opened it."""
    attempt = str((event.data.get("metadata") or {}).get("attempt"))
    if not event.type.startswith("checkout.session.") or not re.fullmatch(_ATTEMPT, attempt):
        return None, "", None
    return int(attempt), event.data.get("url") or "", instant_of(event.data["expires_at"])


async def mark_dispatched(db: Database, event_ids: Sequence[str]) -> None:
    """The processes concerned have been poked."""
    await db.fetch_row("update stripe_events set dispatched_at = now() where id = any($1::text[])", event_ids)


async def undispatched(session: AsyncSession, now: datetime, *, limit: int = 200) -> list[tuple[str, Target]]:
    """Events whose process was not poked within 10 seconds, oldest first."""
    query = (
        select(StripeEvent.id, StripeEvent.process_kind, StripeEvent.process_subject)
        .where(
            StripeEvent.dispatched_at.is_(None),
            StripeEvent.process_kind.is_not(None),
            StripeEvent.received_at < now - timedelta(seconds=10),
        )
        .order_by(StripeEvent.received_at)
        .limit(limit)
    )
    return [
        (event_id, (kind, subject))
        for event_id, kind, subject in await session.execute(query)
        if kind is not None and subject is not None
    ]
