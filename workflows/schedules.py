"""What runs by the calendar. Declared here, created or updated idempotently by `lyceum setup`."""

from collections.abc import Callable
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from core.settings import Settings
from core.temporal import task_queue
from workflows.shared import attributes
from workflows.upload_purge import UploadPurgeWorkflow


def declared(settings: Settings) -> dict[str, Schedule]:
    """Every schedule by its id."""
    prefix = settings.temporal.task_queue_prefix
    return {
        f"{prefix}-upload-purge": Schedule(
            action=ScheduleActionStartWorkflow(
                UploadPurgeWorkflow.run,
                id=f"{prefix}-upload-purge",
                task_queue=task_queue(settings, "core"),
                execution_timeout=timedelta(minutes=30),
            ),
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))], jitter=timedelta(minutes=5)),
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(hours=1)),
        )
    }


async def sync(client: Client, settings: Settings) -> None:
    """Creates what is missing and brings what exists to its declaration."""
    for schedule_id, schedule in declared(settings).items():
        try:
            await client.create_schedule(schedule_id, schedule)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(schedule_id).update(_replace_with(schedule))


def _replace_with(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def update(current: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = current.description.schedule.state  # an operator may have paused it
        return ScheduleUpdate(schedule)

    return update


async def register_search_attributes(client: Client) -> None:
    """Registers those the namespace does not know yet."""
    for key in attributes.ALL:
        kind = IndexedValueType.ValueType(key.indexed_value_type.value)
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes={key.name: kind})
            )
        except RPCError as error:
            if error.status != RPCStatusCode.ALREADY_EXISTS:
                raise
