"""Pokes the processes of webhooks that were stored but never dispatched: Temporal was away, or this process died."""

import asyncio
from functools import partial

from api.container import AppContainer
from core import clock, logs, runtime
from core.messaging.failures import log_failure
from services import stripe_events

log = logs.get_logger(__name__)
INTERVAL = 30.0


async def sweep(container: AppContainer) -> int:
    """One pass; how many events were dispatched. Raises what PostgreSQL or Temporal raise."""
    async with container.db.read() as session:
        events = await stripe_events.undispatched(session, clock.now())
    for event_id, target in events:
        await container.gateway.poke(*target)
        await stripe_events.mark_dispatched(container.db, [event_id])
    if events:
        log.info("stripe events swept", count=len(events))
    return len(events)


async def sweep_until(stop: asyncio.Event, container: AppContainer) -> None:
    """Sweeps every 30 seconds; after a failure the next pass meets the same events."""
    await runtime.every(INTERVAL, stop, partial(sweep, container), partial(log_failure, log, "sweep failed"))
