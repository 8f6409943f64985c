"""What workflow code may import. Everything that is not a workflow is passed through once per process: an import the
sandbox repeats for each workflow costs up to 10 MB and 0.7 s of CPU apiece."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

PASSED_THROUGH = (
    "activities",
    "core",
    "domain",
    "models",
    "services",
    "workflows.shared",
)


def runner() -> SandboxedWorkflowRunner:
    """Refuses, when the worker is built, any workflow that imports something not passed through on purpose."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return SandboxedWorkflowRunner(
        restrictions=restrictions.with_import_notification_policy(
            SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        )
    )
