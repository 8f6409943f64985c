"""The worker process: `lyceum worker`. One Temporal worker per task queue, drained before it stops."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

from activities.enrollments import EnrollmentActivities
from activities.interceptor import ErrorInterceptor
from activities.orders import OrderActivities
from activities.payments import PaymentActivities
from activities.processes import ProcessActivities
from activities.refunds import RefundActivities
from activities.uploads import UploadActivities
from core import health, runtime, telemetry
from core.db import Database
from core.integrations.s3 import S3Storage
from core.integrations.stripe import StripeGateway
from core.settings import Settings, get_settings
from core.temporal import connect, task_queue
from workflows import sandbox
from workflows.enrollment import EnrollmentWorkflow
from workflows.order import OrderWorkflow
from workflows.refund import RefundWorkflow
from workflows.upload_purge import UploadPurgeWorkflow

WORKFLOWS: list[type] = [EnrollmentWorkflow, OrderWorkflow, RefundWorkflow, UploadPurgeWorkflow]
WEIGHTS = {"core": 8, "stripe": 6, "bulk": 1}
"""Each task queue's part of a worker's activity slots."""
QUEUES = tuple(WEIGHTS)
_WORKFLOW_POLLS = 10
"""A task that meets no waiting poll is written to the server's database and read again."""
STICKY = timedelta(seconds=3)
"""How long a task waits for the worker that has its workflow in memory: what a killed worker costs its workflows."""


def activities_of(queue: str, db: Database, stripe: StripeGateway, settings: Settings) -> list[Callable[..., Any]]:
    """Which activities a task queue runs: queues follow the resource they use, so that each can be limited."""
    payments, refunds = PaymentActivities(db, stripe, settings), RefundActivities(db, stripe)
    if queue == "stripe":
        return [
            payments.open_checkout,
            payments.read_payments,
            payments.close_checkouts,
            refunds.submit,
            refunds.read,
        ]
    if queue == "core":
        orders, enrollments, processes = OrderActivities(db, settings), EnrollmentActivities(db), ProcessActivities(db)
        return [
            orders.record_checkout,
            orders.renew_checkout,
            orders.apply_payments,
            refunds.next_attempt,
            enrollments.read,
            enrollments.end,
            processes.mark_stuck,
            processes.mark_recovered,
        ]
    return [UploadActivities(db, S3Storage(settings.s3)).purge_abandoned]


def activity_slots(queues: Sequence[str], settings: Settings) -> dict[str, int]:
    """How many activities of each queue run at once: together no more than the database pool has connections."""
    database = settings.database
    slots = min(settings.temporal.max_concurrent_activities, database.pool_size + database.max_overflow)
    weight = sum(WEIGHTS[queue] for queue in queues)
    return {queue: max(1, slots * WEIGHTS[queue] // weight) for queue in queues}


def build(
    client: Client, queues: Sequence[str], db: Database, stripe: StripeGateway, settings: Settings
) -> list[Worker]:
    """One worker per queue.

    Half of a queue's slots poll. The others let Temporal hand a workflow's next activity to the worker that asked for
    it (eager start), which halves what the activity costs the server.
    """
    temporal = settings.temporal
    return [
        Worker(
            client,
            task_queue=task_queue(settings, queue),
            workflows=WORKFLOWS if queue == "core" else [],
            activities=activities_of(queue, db, stripe, settings),
            interceptors=[ErrorInterceptor()],
            workflow_runner=sandbox.runner(),
            max_concurrent_activities=slots,
            max_concurrent_activity_task_polls=max(1, slots // 2),
            max_concurrent_workflow_task_polls=_WORKFLOW_POLLS,
            max_cached_workflows=temporal.max_cached_workflows if queue == "core" else 0,
            sticky_queue_schedule_to_start_timeout=STICKY,
            graceful_shutdown_timeout=timedelta(seconds=temporal.graceful_shutdown),
        )
        for queue, slots in activity_slots(queues, settings).items()
    ]


async def serve(queues: Sequence[str], settings: Settings, stop: asyncio.Event) -> None:
    """Runs until `stop`, then lets activities finish."""
    db = Database(settings.database, application_name="lyceum-worker")
    stripe = StripeGateway(settings.stripe)
    try:
        client = await connect(settings)

        async def temporal_answers() -> None:
            await client.service_client.check_health(timeout=timedelta(seconds=2))

        async with AsyncExitStack() as stack:
            for worker in build(client, queues, db, stripe, settings):
                await stack.enter_async_context(worker)
            await stack.enter_async_context(
                health.serve(settings.telemetry, {"temporal": temporal_answers, "postgresql": db.ping})
            )
            await stop.wait()
    finally:
        await stripe.aclose()
        await db.dispose()
        await asyncio.sleep(0.2)  # sdk-python#300: its threads may abort an interpreter that leaves at once


def run(queues: Sequence[str]) -> None:
    """`lyceum worker --queue core --queue stripe`."""
    unknown = set(queues) - set(QUEUES)
    if unknown:
        raise SystemExit(f"There is no queue {', '.join(sorted(unknown))}; there are {', '.join(QUEUES)}.")
    settings = get_settings()
    telemetry.setup(settings, "worker")
    workflow.logger.workflow_info_on_message = False  # the ids are fields of the line
    activity.logger.activity_info_on_message = False
    runtime.main(lambda stop: serve(queues, settings, stop))
