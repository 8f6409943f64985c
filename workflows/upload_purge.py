"""UploadPurge: the hourly removal of abandoned uploads (Schedule)."""

from temporalio import workflow

from workflows.shared.policies import S3

with workflow.unsafe.imports_passed_through():
    from activities.uploads import UploadActivities
    from domain.contracts.processes import UploadsPurged

PATIENCE = 900.0


@workflow.defn(name="UploadPurge")
class UploadPurgeWorkflow:
    """Fails visibly after 15 minutes; the next hour starts afresh."""

    @workflow.run
    async def run(self) -> UploadsPurged:
        return await workflow.execute_activity_method(
            UploadActivities.purge_abandoned, summary="remove abandoned uploads", **S3.options(PATIENCE)
        )
