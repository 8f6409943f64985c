"""Pokes the processes of webhooks that were stored but never dispatched: Temporal was away, or this process died."""

import asyncio

import structlog

from api.container import AppContainer
from core import clock
from services import stripe_events

logger = structlog.get_logger()
INTERVAL = 30.0


async def sweep(container: AppContainer) -> int:
    """One pass; how many events were dispatched. Raises what PostgreSQL or Temporal raise."""
    async with container.db.read() as session:
        events = await stripe_events.undispatched(session, clock.now())
    for event_id, target in events:
        await container.gateway.poke(*target)
        await stripe_events.mark_dispatched(container.db, [event_id])
    return len(events)


async def sweep_forever(container: AppContainer) -> None:
    """Sweeps every 30 seconds; a backing service that is away only postpones it."""
    while True:
        try:
            swept = await sweep(container)
            if swept:
                logger.info("stripe_events_swept", count=swept)
        except Exception as error:  # whatever it is, the next pass meets the same events
            logger.warning("sweep_failed", error=type(error).__name__)
        await asyncio.sleep(INTERVAL)
