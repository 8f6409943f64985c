"""How long an activity may take and how it is retried. Every activity call names one of these.

A policy's schedule-to-close is the process's patience: when it is spent the step counts as stuck, is shown to
operators, and is tried again on a slower clock (`workflows/shared/process.py`).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict

from temporalio import workflow
from temporalio.common import RetryPolicy

SLOW_CLOCK = timedelta(minutes=5)
"""Between two tries of a step that is stuck."""


class LocalActivityOptions(TypedDict):
    start_to_close_timeout: timedelta
    schedule_to_close_timeout: timedelta
    retry_policy: RetryPolicy


class ActivityOptions(LocalActivityOptions):
    task_queue: str


@dataclass(frozen=True, slots=True)
class Policy:
    """`queue` is the resource the activity uses; times of one try, and between tries."""

    queue: str
    start_to_close: timedelta
    max_interval: timedelta

    def options(self, patience: float) -> ActivityOptions:
        """Options for an activity that may fail for `patience` seconds before it is stuck."""
        prefix = workflow.info().task_queue.rpartition("-")[0]
        return {
            "task_queue": f"{prefix}-{self.queue}",
            "start_to_close_timeout": self.start_to_close,
            "schedule_to_close_timeout": timedelta(seconds=patience),
            "retry_policy": RetryPolicy(
                initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=self.max_interval
            ),
        }

    def local_options(self) -> LocalActivityOptions:
        """Options for one try inside the workflow task."""
        return {
            "schedule_to_close_timeout": self.start_to_close,
            "start_to_close_timeout": self.start_to_close,
            "retry_policy": RetryPolicy(maximum_attempts=1),
        }


DB = Policy("core", timedelta(seconds=10), timedelta(seconds=30))
STRIPE = Policy("stripe", timedelta(seconds=45), timedelta(seconds=60))
S3 = Policy("bulk", timedelta(minutes=5), timedelta(seconds=60))
