"""A Temporal server with a clock that tests move, workers on the scripted world, and the gateway to drive them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateWithStartInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment
from temporalio.worker import Worker

from core.settings import Settings
from core.temporal import data_converter, task_queue
from deploy.local.stack import script
from tests.support.wait import until
from tests.workflows.world import Scripted, World
from workflows import sandbox
from workflows.gateway import ProcessGateway
from workflows.shared import attributes, ids
from workflows.worker import QUEUES, WORKFLOWS

Handle = WorkflowHandle[Any, Any]

_LIMIT = timedelta(days=3650)
"""Of a workflow's own, virtual time: no run outlives the server of its test."""


class Clock:
    """Each workflow has its own; nothing moves it but `advance`."""

    def __init__(self, environment: WorkflowEnvironment) -> None:
        self._environment = environment

    async def advance(self, handle: Handle, delta: timedelta) -> None:
        """Moves the clock once nothing of the workflow is under way. Timers due meanwhile have fired when this returns;
        what they set off may still be under way."""
        await self._environment.fast_forward(handle, delta)

    async def now(self, handle: Handle) -> datetime:
        return await self._environment.get_current_time(handle)


class _Limited(Interceptor):
    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _LimitedOutbound(next)


class _LimitedOutbound(OutboundInterceptor):
    """Every workflow of a test ends by itself some day."""

    async def start_workflow(self, input: StartWorkflowInput) -> Handle:
        input.execution_timeout = input.execution_timeout or _LIMIT
        return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        input.start_workflow_input.execution_timeout = input.start_workflow_input.execution_timeout or _LIMIT
        return await super().start_update_with_start_workflow(input)


class Lab:
    """What a test of processes needs. `settings` are those of gateway and workers."""

    def __init__(self, settings: Settings, environment: WorkflowEnvironment) -> None:
        self.settings = settings
        self.client: Client = environment.client
        self.clock = Clock(environment)
        self.gateway = ProcessGateway(settings, environment.client)
        self.world = World()

    def process(self, kind: str, subject_id: UUID) -> Handle:
        """The latest run of the subject's process."""
        return self.client.get_workflow_handle(ids.process_id(kind, subject_id))

    async def details(self, handle: Handle) -> str:
        """The current details an operator reads in the Temporal UI."""
        metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return str(metadata.current_details)

    async def shows(self, handle: Handle, text: str) -> str:
        """Waits until the details contain `text`: the process has come to that wait."""

        async def found() -> str:
            details = await self.details(handle)
            return details if text in details else ""

        return await until(found, timeout=60)

    async def attribute(self, handle: Handle, name: str) -> Any:
        """A search attribute of the process; None when it has none."""
        key = next(key for key in attributes.ALL if key.name == name)
        return (await handle.describe()).typed_search_attributes.get(key)

    async def updates_arrived(self, handle: Handle, count: int) -> None:
        """Waits until the process has accepted so many updates."""

        async def accepted() -> bool:
            kinds = [event.event_type async for event in handle.fetch_history_events()]
            return kinds.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED) >= count

        await until(accepted, timeout=60)

    async def until_marked(self, subject: Scripted, times: int = 1) -> None:
        """Waits until the projection has shown the subject's process as stuck so often."""

        async def marked() -> bool:
            return len(self.world.stuck[subject.id]) >= times

        await until(marked, timeout=60)

    async def poke_until(self, subject: Scripted, kind: str, happened: Callable[[], Awaitable[bool]]) -> None:
        """Pokes the process, each time when it has read its source, until something happened."""
        while not await happened():
            reads = len(subject.calls)
            await self.gateway.poke_running(kind, subject.id)

            async def has_read(before: int = reads) -> bool:
                return len(subject.calls) > before

            await until(has_read)

    async def run_id(self, handle: Handle) -> str:
        return (await handle.describe()).run_id


def settings_of(prefix: str, *, patience: float = 300.0) -> Settings:
    """No payload keys: recorded histories can be read."""
    return Settings.model_validate(
        {
            "environment": "test",
            "temporal": {"task_queue_prefix": prefix, "stuck_after": patience, "rpc_timeout": 30.0, "codec_keys": ""},
        }
    )


@asynccontextmanager
async def skipping(settings: Settings, prefix: str, **dynamic_config: object) -> AsyncIterator[WorkflowEnvironment]:
    """A dev server in memory whose clocks can be moved, with `dynamic_config` (dots written as double underscores)."""
    config = {"frontend.WorkflowTimeSkippingEnabled": "true"} | {
        name.replace("__", "."): str(value) for name, value in dynamic_config.items()
    }
    async with await WorkflowEnvironment.start_time_skipping_v2(
        ts_config=TimeSkippingConfig(enabled=False),
        dev_server_existing_path=script("temporal"),
        dev_server_log_level="error",
        dev_server_extra_args=[
            part for name, value in config.items() for part in ("--dynamic-config-value", f"{name}={value}")
        ],
        data_converter=data_converter(settings),
        interceptors=[_Limited()],
        search_attributes=attributes.ALL,
        identity=prefix,
    ) as environment:
        yield environment


@asynccontextmanager
async def lab(prefix: str = "lab", **dynamic_config: object) -> AsyncIterator[Lab]:
    """A server of its own and workers whose activities follow a script."""
    settings = settings_of(prefix)
    async with AsyncExitStack() as stack:
        environment = await stack.enter_async_context(skipping(settings, prefix, **dynamic_config))
        fresh = Lab(settings, environment)
        for queue in QUEUES:
            await stack.enter_async_context(
                Worker(
                    environment.client,
                    task_queue=task_queue(settings, queue),
                    workflows=WORKFLOWS if queue == "core" else [],
                    activities=fresh.world.activities_of(queue),
                    workflow_runner=sandbox.runner(),
                    identity=prefix,
                )
            )
        yield fresh
