"""Refunds: when one is over, and what is refused."""

from datetime import timedelta
from enum import StrEnum
from typing import Final

from domain.errors import Conflict, NotFound


class RefundStatus(StrEnum):
    """reserved → pending → succeeded or needs_manual, from which another attempt is reserved."""

    RESERVED = "reserved"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    NEEDS_MANUAL = "needs_manual"


FINAL: Final = (RefundStatus.SUCCEEDED, RefundStatus.NEEDS_MANUAL)
"""Nothing more happens to it by itself; `needs_manual` waits for an operator's word."""

POLL: Final = timedelta(hours=1)
"""How often Stripe is asked for a refund that is under way."""


class RefundNotFound(NotFound):
    title = "No such refund"


class RefundAttemptSpent(Conflict):
    """The attempt's idempotency key can no longer be used, and no refund exists under it: the next needs another."""

    title = "The attempt is spent"
