"""The hourly removal of abandoned uploads."""

from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError

from core.temporal import task_queue
from domain.contracts.processes import UploadsPurged
from tests.workflows.lab import Handle, Lab
from workflows.upload_purge import UploadPurgeWorkflow


async def _start(lab: Lab, name: str) -> Handle:
    return await lab.client.start_workflow(
        UploadPurgeWorkflow.run,
        id=f"upload-purge-{name}",
        task_queue=task_queue(lab.settings, "core"),
        execution_timeout=timedelta(minutes=30),
    )


async def test_answers_how_much_it_removed(lab: Lab) -> None:
    assert await (await _start(lab, "good")).result() == UploadsPurged(count=7)


async def test_what_cannot_succeed_fails_visibly(lab: Lab) -> None:
    lab.world.purge.fail("uploads.purge_abandoned", "BucketMissing")
    process = await _start(lab, "bad")
    with pytest.raises(WorkflowFailureError):
        await process.result()
