"""Turns what activities raise into what Temporal understands, in one place; binds ids to the log."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from core import logs
from core.integrations.stripe import StripeMisuse, StripeRefused, StripeTransient
from domain.errors import DomainError, Kind

log = logs.get_logger(__name__)


class ErrorInterceptor(Interceptor):
    """Business refusals and misuse are not retried; what may pass is, after the delay its source asked for."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next)


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        with structlog.contextvars.bound_contextvars(
            workflow_id=info.workflow_id, activity=info.activity_type, attempt=info.attempt
        ):
            return await _translate(super().execute_activity, input)


async def _translate(execute: Callable[[ExecuteActivityInput], Awaitable[Any]], input: ExecuteActivityInput) -> Any:
    try:
        return await execute(input)
    except StripeTransient as error:
        delay = timedelta(seconds=error.retry_after) if error.retry_after else None
        log.warning("Stripe unavailable", error=str(error))
        raise ApplicationError(str(error), type="StripeTransient", next_retry_delay=delay) from error
    except (StripeRefused, StripeMisuse) as error:
        log.error("Stripe refused", error=str(error))
        raise ApplicationError(str(error), type=type(error).__name__, non_retryable=True) from error
    except DomainError as error:
        raise ApplicationError(
            error.detail, type=error.code, non_retryable=error.kind is not Kind.UNAVAILABLE
        ) from error
