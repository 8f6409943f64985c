"""Orders: what may be ordered, and what a payment that arrived pays for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from domain.errors import Conflict, Invalid, NotFound

MAX_LINES: Final = 20
POLL_AFTER: Final = timedelta(minutes=15)
"""After a checkout's end Stripe is asked once more, in case every webhook was lost (docs/faults.md, row 6)."""
HOLD_AFTER: Final = 2 * POLL_AFTER
"""A seat is held longer than the checkout and its last poll: only a process that never ran lets a hold lapse."""
SETTLE_POLL: Final = timedelta(hours=1)
"""How often Stripe is asked for money that is under way: at a bank, or not yet settled."""


class OrderStatus(StrEnum):
    """pending → paying → paid, expired or canceled; money that came late can make these two paid."""

    PENDING = "pending"
    PAYING = "paying"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELED = "canceled"


OPEN: Final = frozenset({OrderStatus.PENDING, OrderStatus.PAYING})


class ClaimState(StrEnum):
    """A student's claim on a course: claimed by an open order → owned; from both to released."""

    CLAIMED = "claimed"
    OWNED = "owned"
    RELEASED = "released"


class CourseNotForSale(NotFound):
    title = "The course is not for sale"


class CourseNotFree(Conflict):
    title = "The course has a price: place an order"


class AlreadyEnrolled(Conflict):
    title = "The student already has this course"


class CourseInOpenOrder(Conflict):
    """Another order of the same student is still waiting for its payment; cancel it or pay it."""

    title = "Another open order contains this course"


class SeatUnavailable(Conflict):
    title = "Every seat of the course is taken or held"


class IdempotencyKeyReused(Invalid):
    title = "The Idempotency-Key was used for another request"


class OrderClosed(Conflict):
    title = "The order has ended"


class PaymentUnderWay(Conflict):
    """Its payment page was completed with a method that takes days: only the payment's end decides the order's."""

    title = "The payment is under way"


class OrderNotFound(NotFound):
    title = "No such order"


class CheckoutRefused(Conflict):
    """Stripe will not open a Checkout Session with these parameters; a new attempt needs a new key."""

    title = "The payment page could not be opened"


class Unapplied(StrEnum):
    """Why captured money buys nothing."""

    AMOUNT = "amount_mismatch"
    CURRENCY = "currency_mismatch"
    MODE = "livemode_mismatch"
    DUPLICATE = "duplicate"
    OWNED = "already_owned"
    ORDERED = "in_open_order"
    CLOSED = "course_closed"
    FULL = "course_full"


@dataclass(frozen=True, slots=True)
class Charge:
    """A captured payment: `amount` in minor units of `currency`."""

    amount: int
    currency: str
    livemode: bool


@dataclass(frozen=True, slots=True)
class Payable:
    """The order a charge belongs to. `late`: it had already expired or been canceled."""

    gross: int
    currency: str
    livemode: bool
    paid: bool
    late: bool


@dataclass(frozen=True, slots=True)
class PayableLine:
    """A line and what stands in its way: whether its course is `taken` (`OWNED`, or `ORDERED` and not paid yet) by
    something else of the student's, is `open`, and has a `seat` that is free or held for the order."""

    id: UUID
    gross: int
    taken: Unapplied | None
    open: bool
    seat: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the charge pays for, and how much of it goes back for which reason."""

    granted: tuple[UUID, ...]
    unapplied: int
    reason: Unapplied | None


def judge(charge: Charge, order: Payable, lines: Sequence[PayableLine]) -> Verdict:
    """Decides over money that was captured. It never refuses: what cannot be fulfilled is given back.

    In time, a line is fulfilled at its frozen price even if the course was unpublished or re-priced meanwhile (row 10
    of docs/faults.md); late, only while the course is open and has a seat (row 8). A wrong amount fulfils nothing (row
    11).
    """
    whole = None
    if charge.livemode != order.livemode:
        whole = Unapplied.MODE
    elif charge.currency != order.currency:
        whole = Unapplied.CURRENCY
    elif charge.amount != order.gross:
        whole = Unapplied.AMOUNT
    elif order.paid:
        whole = Unapplied.DUPLICATE
    if whole:
        return Verdict((), charge.amount, whole)

    refused: list[tuple[int, Unapplied]] = []
    granted: list[UUID] = []
    for line in lines:
        reason = _obstacle(line, late=order.late)
        if reason:
            refused.append((line.gross, reason))
        else:
            granted.append(line.id)
    return Verdict(tuple(granted), sum(gross for gross, _ in refused), refused[0][1] if refused else None)


def _obstacle(line: PayableLine, *, late: bool) -> Unapplied | None:
    if line.taken:
        return line.taken
    if not line.seat:
        return Unapplied.FULL
    if late and not line.open:
        return Unapplied.CLOSED
    return None
