"""The `processes` consumer: events that start or poke a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from core.db import Database
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
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
from workflows.gateway import ProcessGateway


@asynccontextmanager
async def consumer(settings: Settings, db: Database) -> AsyncIterator[External]:
    """Starts and pokes processes for events."""
    yield External(partial(handle, ProcessGateway(settings)), transient=(ServiceUnavailable,))


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
