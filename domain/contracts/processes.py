"""What travels through Temporal: inputs and results of workflows and activities.

Ids and small values only; amounts, names and texts stay in PostgreSQL. A field added later has a default, because a
running process may have been started before it existed.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An activity's input: whose step it is, and the process's own clock (virtual in tests)."""

    id: UUID
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A step that keeps failing. `error` is a class name, never a message."""

    process_id: str
    kind: str
    subject_id: UUID
    step: str
    error: str
    since: datetime
    next_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInput:
    """The input of every process: its subject's id, and how many seconds a step may fail before it counts as stuck.

    `stuck` is what a run that grew long hands on to the next.
    """

    subject_id: UUID
    patience: float = 300.0
    stuck: Stuck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutCreated:
    """Stripe has a Checkout Session for the order."""

    n: int
    stripe_session: str
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCheckout:
    order_id: UUID
    checkout: CheckoutCreated
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentsSeen:
    """What Stripe says of an order. `open` means one of its Checkout Sessions can still be paid."""

    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyPayments:
    """Book what is known of an order's payments. `close` ends an unpaid order for that reason."""

    order_id: UUID
    now: datetime
    close: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderState:
    """An order as PostgreSQL has it. `settled`: every charge's balance transaction is booked."""

    status: str
    expires_at: datetime
    checkout_n: int = 1
    has_checkout: bool = False
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckoutOpened:
    """The order, and the Checkout Session Stripe made for it; none where it needs none (any more)."""

    order: OrderState
    checkout: CheckoutCreated | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundState:
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollmentState:
    status: str
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndEnrollment:
    """`status` is `withdrawn` or `expired`."""

    enrollment_id: UUID
    status: str
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsPurged:
    count: int
