"""The only code that starts, updates, signals or queries workflows.

`ServiceUnavailable` means Temporal did not answer in time; what was asked for may still happen, and asking again with
the same ids joins it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from core.settings import Settings
from core.temporal import connect, data_converter, task_queue
from domain.contracts.processes import EnrollmentState, OrderState, ProcessInput
from domain.enrollments import EnrollmentEnded
from domain.errors import DomainError, ServiceUnavailable
from domain.orders import OrderClosed, PaymentUnderWay
from domain.processes import ProcessEnded, ProcessStuck
from workflows.shared import attributes, ids
from workflows.shared.process import Process

P = ParamSpec("P")
R = TypeVar("R")

_PAGES = {"order": "orders", "enrollment": "enrollments"}
"""Where the API shows a subject; other kinds have no page of their own."""
_REFUSALS: dict[str, type[DomainError]] = {
    error.__name__: error for error in (EnrollmentEnded, OrderClosed, PaymentUnderWay, ProcessEnded, ProcessStuck)
}
"""What a process may answer to an update, by the error type it gives."""


def _unavailable(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    @wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await function(*args, **kwargs)
        except WorkflowUpdateFailedError as error:
            raise _refusal(error.cause) from error
        except (WorkflowUpdateRPCTimeoutOrCancelledError, TimeoutError) as error:
            raise ServiceUnavailable("The process did not answer in time.") from error
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise ProcessEnded("The process is not running.") from error
            raise ServiceUnavailable("Temporal does not answer.") from error
        except RuntimeError as error:  # a lazy client that cannot connect
            raise ServiceUnavailable("Temporal cannot be reached.") from error

    return wrapper


def _refusal(cause: BaseException | None) -> DomainError:
    """The refusal an update failed with; one that ended with its process says so."""
    if not isinstance(cause, ApplicationError):
        return ProcessEnded(str(cause))
    return _REFUSALS.get(cause.type or "", ProcessEnded)(cause.message)


class ProcessGateway:
    """Speaks to running processes. Connects on first use, so that its owner starts while Temporal is down.

    Raises `ValueError` when the codec keys are wrong, or missing in production.
    """

    def __init__(self, settings: Settings, client: Client | None = None) -> None:
        if client is None:
            data_converter(settings)
        self._settings = settings
        self._client = client
        self._timeout = timedelta(seconds=settings.temporal.rpc_timeout)

    async def _connected(self) -> Client:
        if self._client is None:
            self._client = await connect(self._settings, lazy=True)
        return self._client

    @_unavailable
    async def ping(self) -> None:
        """Raises `ServiceUnavailable` unless Temporal answers."""
        await (await self._connected()).service_client.check_health(timeout=timedelta(seconds=2))

    @_unavailable
    async def place_order(self, order_id: UUID, *, update_id: str) -> OrderState:
        """Starts or joins the order's process and waits for its payment page. The same update id asks once."""
        return await self._update("place", "order", order_id, update_id, OrderState)

    @_unavailable
    async def cancel_order(self, order_id: UUID, *, update_id: str) -> OrderState:
        """Cancels an open order; answers what became of it (paid, when the payment was faster).

        Raises `OrderClosed`, and `PaymentUnderWay` when a bank has the payment.
        """
        return await self._update("cancel", "order", order_id, update_id, OrderState)

    @_unavailable
    async def withdraw(self, enrollment_id: UUID, *, update_id: str) -> EnrollmentState:
        """Ends an enrollment on the student's word; raises `EnrollmentEnded`."""
        return await self._update("withdraw", "enrollment", enrollment_id, update_id, EnrollmentState)

    async def _update(self, name: str, kind: str, subject_id: UUID, update_id: str, result: type[R]) -> R:
        """Starts or joins a subject's process and asks it. A stuck one raises `ProcessStuck`, to be asked again."""
        client = await self._connected()
        start = WithStartWorkflowOperation[Any, Any](kind.capitalize(), **self._start_options(kind, subject_id))
        # What fails is raised by the update; asyncio would report the same of this future, which nobody awaits.
        start._workflow_handle.add_done_callback(lambda started: started.cancelled() or started.exception())
        answer: R = await client.execute_update_with_start_workflow(
            name,
            id=update_id,
            start_workflow_operation=start,
            result_type=result,
            rpc_timeout=self._timeout,
        )
        return answer

    @_unavailable
    async def ensure(self, kind: str, subject_id: UUID, *, course_id: UUID | None = None) -> None:
        """Starts the process of a subject unless it runs or has run; operators find it by its course, too."""
        client = await self._connected()
        options = self._start_options(kind, subject_id, course_id)
        options["id_reuse_policy"] = WorkflowIDReusePolicy.REJECT_DUPLICATE
        with suppress(WorkflowAlreadyStartedError):
            await client.start_workflow(kind.capitalize(), **options, rpc_timeout=self._timeout)

    @_unavailable
    async def poke(self, kind: str, subject_id: UUID) -> None:
        """Wakes the process of a subject, starting a fresh run if it has ended."""
        client = await self._connected()
        await client.start_workflow(
            kind.capitalize(),
            **self._start_options(kind, subject_id),
            start_signal="poke",
            rpc_timeout=self._timeout,
        )

    @_unavailable
    async def poke_running(self, kind: str, subject_id: UUID) -> None:
        """Wakes the process of a subject; raises `ProcessEnded` when none runs."""
        handle = (await self._connected()).get_workflow_handle(ids.process_id(kind, subject_id))
        await handle.signal(Process.poke, rpc_timeout=self._timeout)

    @_unavailable
    async def retry(self, kind: str, subject_id: UUID, *, update_id: str) -> str:
        """An operator's "try again now"; answers what the process was waiting for."""
        handle = (await self._connected()).get_workflow_handle(ids.process_id(kind, subject_id))
        return await handle.execute_update(Process.retry, id=update_id, rpc_timeout=self._timeout)

    def _start_options(self, kind: str, subject_id: UUID, course_id: UUID | None = None) -> dict[str, Any]:
        shown = [
            SearchAttributePair(attributes.KIND, kind),
            SearchAttributePair(attributes.STATE, attributes.FIRST_STATE[kind]),
        ]
        if course_id is not None:
            shown.append(SearchAttributePair(attributes.COURSE, str(course_id)))
        page = f"{self._settings.api.public_url}/v1/{_PAGES[kind]}/{subject_id}" if kind in _PAGES else ""
        return {
            "arg": ProcessInput(subject_id=subject_id, patience=self._settings.temporal.stuck_after),
            "id": ids.process_id(kind, subject_id),
            "task_queue": task_queue(self._settings, "core"),
            "id_conflict_policy": WorkflowIDConflictPolicy.USE_EXISTING,
            "id_reuse_policy": WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            "static_summary": f"{kind} {subject_id}",
            "static_details": f"[{kind} {subject_id}]({page})" if page else "",
            "search_attributes": TypedSearchAttributes(shown),
        }
