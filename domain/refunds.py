"""Refunds: when one is over, and what is refused."""

from datetime import timedelta
from typing import Final

from domain.errors import Conflict, NotFound

FINAL: Final = ("succeeded", "needs_manual")
"""Nothing more happens to it by itself; `needs_manual` waits for an operator's word."""

POLL: Final = timedelta(hours=1)
"""How often Stripe is asked for a refund that is under way."""


class RefundNotFound(NotFound):
    title = "No such refund"


class RefundAttemptSpent(Conflict):
    """The attempt's idempotency key can no longer be used, and no refund exists under it: the next needs another."""

    title = "The attempt is spent"
