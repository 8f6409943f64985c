"""Runs the bare workflow with the product's worker settings, sandbox and codec: `python -m tests.bench.bare_worker`."""

import uvloop
from temporalio.worker import Worker

from core.settings import Settings
from core.temporal import connect, task_queue
from tests.bench.bare_process import BareWorkflow, nothing
from workflows import sandbox

QUEUE = "bare"


async def main(settings: Settings) -> None:
    client = await connect(settings)
    temporal, database = settings.temporal, settings.database
    slots = min(temporal.max_concurrent_activities, database.pool_size + database.max_overflow)
    worker = Worker(
        client,
        task_queue=task_queue(settings, QUEUE),
        workflows=[BareWorkflow],
        activities=[nothing],
        workflow_runner=sandbox.runner(),
        max_concurrent_activities=slots,
        max_cached_workflows=temporal.max_cached_workflows,
    )
    await worker.run()


if __name__ == "__main__":
    uvloop.run(main(Settings()))
