"""What activities raise, and what Temporal is told."""

from datetime import timedelta
from typing import Any

import pytest
import structlog
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.interceptor import ErrorInterceptor
from core.integrations.stripe import StripeMisuse, StripeRefused, StripeTransient
from domain.errors import ServiceUnavailable
from domain.orders import CheckoutRefused, OrderNotFound


class Raises(ActivityInboundInterceptor):
    """The innermost of the chain: an activity that ends as it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.bound: dict[str, Any] = {}

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self.bound = dict(structlog.contextvars.get_contextvars())
        if self._error is not None:
            raise self._error
        return "done"


async def _run(activity: ActivityInboundInterceptor) -> Any:
    async def fn() -> None: ...

    call = ExecuteActivityInput(fn=fn, args=(), executor=None, headers={})
    chain = ErrorInterceptor().intercept_activity(activity)
    return await ActivityEnvironment().run(chain.execute_activity, call)


@pytest.mark.parametrize(
    ("error", "type_", "retried", "delay"),
    [
        (StripeTransient("busy"), "StripeTransient", True, None),
        (StripeTransient("busy", retry_after=7), "StripeTransient", True, timedelta(seconds=7)),
        (StripeRefused("card_declined", "no", 402), "StripeRefused", False, None),
        (StripeMisuse("wrong key"), "StripeMisuse", False, None),
        (OrderNotFound("no such order"), "OrderNotFound", False, None),
        (CheckoutRefused("refused"), "CheckoutRefused", False, None),
        (ServiceUnavailable("later"), "ServiceUnavailable", True, None),
    ],
)
async def test_errors_are_typed_and_know_whether_another_try_helps(
    error: Exception, type_: str, retried: bool, delay: timedelta | None
) -> None:
    with pytest.raises(ApplicationError) as raised:
        await _run(Raises(error))
    assert raised.value.type == type_
    assert raised.value.non_retryable is not retried
    assert raised.value.next_retry_delay == delay
    assert raised.value.__cause__ is error


async def test_what_nobody_foresaw_is_left_to_the_retry_policy() -> None:
    with pytest.raises(ConnectionResetError):
        await _run(Raises(ConnectionResetError()))


async def test_log_lines_of_an_activity_name_its_process() -> None:
    activity = Raises()
    assert await _run(activity) == "done"
    info = ActivityEnvironment.default_info()
    assert activity.bound == {"workflow_id": info.workflow_id, "activity": info.activity_type, "attempt": info.attempt}
    assert structlog.contextvars.get_contextvars() == {}
