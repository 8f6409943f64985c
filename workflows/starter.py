"""The `processes` consumer: events that start or poke a process. It counts the stuck ones, too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from core import logs, runtime
from core.db import Database
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.messaging.failures import log_failure
from core.settings import Settings
from domain.contracts.events import (
    EnrollmentGranted,
    EnrollmentRevoked,
    EnrollmentWithdrawn,
    OrderPlaced,
    PaymentUnapplied,
)
from domain.errors import ServiceUnavailable
from domain.processes import ProcessEnded
from services import processes
from workflows.gateway import ProcessGateway

_COUNT_INTERVAL = 5.0

log = logs.get_logger(__name__)


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[External]:
    """Starts and pokes processes for events."""
    stop = asyncio.Event()
    not_counted = partial(log_failure, log, "stuck processes not counted")
    counting = asyncio.create_task(runtime.every(_COUNT_INTERVAL, stop, partial(_count_stuck, db), not_counted))
    try:
        yield External(partial(handle, ProcessGateway(settings)), transient=(ServiceUnavailable,))
    finally:
        stop.set()
        await counting


async def _count_stuck(db: Database) -> None:
    async with db.read() as session:
        await processes.observe_stuck(session)


async def handle(gateway: ProcessGateway, envelope: Envelope) -> None:
    """Idempotent: a process that has run is left alone, one that is poked re-reads its source."""
    match envelope.event:
        case OrderPlaced(order_id=order_id):
            await gateway.ensure("order", order_id)
        case PaymentUnapplied(refund_id=refund_id):
            await gateway.ensure("refund", refund_id)
        case EnrollmentGranted(enrollment_id=enrollment_id, course_id=course_id):
            await gateway.ensure("enrollment", enrollment_id, course_id=course_id)
        case EnrollmentWithdrawn(enrollment_id=enrollment_id) | EnrollmentRevoked(enrollment_id=enrollment_id):
            with suppress(ProcessEnded):
                await gateway.poke_running("enrollment", enrollment_id)
