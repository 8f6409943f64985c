"""The sentences of a timeline. A fact stores its kind and details; the words can improve without rewriting history."""

from collections.abc import Mapping
from typing import Any, Final

from domain.money import Money

SENTENCES: Final[Mapping[str, str]] = {
    "order.placed": "You placed the order for {total}. Your seats are held.",
    "checkout.opened": "The payment page is open.",
    "payment.received": "Stripe captured {total}.",
    "payment.failed": "The payment failed at your bank, and nothing was taken.",
    "order.paid": "Your payment was booked and your courses are open.",
    "order.given": "The order costs nothing, and your courses are open.",
    "order.settled": "Stripe settled the payment: {net} after a fee of {fee}.",
    "order.expired": "Nobody paid in time, so the order ended and its seats were given back.",
    "order.canceled": "You canceled the order and its seats were given back.",
    "order.refused": "The order could not go on ({reason}) and its seats were given back.",
    "payment.unapplied": "{total} arrived that buys nothing ({reason}). It goes back to you by itself.",
    "payment.returned": "{total} went back to where it came from.",
    "refund.submitted": "Stripe was asked to give {total} back.",
    "refund.failed": "Stripe could not give {total} back ({reason}). Our staff has been told.",
    "enrollment.granted": "You have access to the course.",
    "enrollment.withdrawn": "You left the course.",
    "enrollment.revoked": "Access to the course ended ({reason}).",
    "enrollment.expired": "Access to the course ended on its last day.",
    "process.stuck": "A step keeps failing: {step}. Our staff sees it.",
    "process.recovered": "The failing step went through.",
    "process.retried": "Our staff asked for another try at once.",
}

_REASONS: Final[Mapping[str, str]] = {
    "amount_mismatch": "the amount is not the order's",
    "currency_mismatch": "the currency is not the order's",
    "livemode_mismatch": "it was paid in another mode",
    "duplicate": "the order was paid already",
    "already_owned": "you already have the course",
    "in_open_order": "another open order of yours has the course",
    "course_closed": "the course is no longer offered",
    "course_full": "the course is full",
    "payment_failed": "the payment failed",
    "checkout_refused": "the payment page could not be opened",
}


def reason(code: str) -> str:
    """A stored reason as half a sentence: `course_full` is `the course is full`; an unknown one stays as it is."""
    return _REASONS.get(code, code)


def sentence(kind: str, details: Mapping[str, Any]) -> str:
    """The fact in English. Amounts in `details` are `{name: minor units}` beside a `currency`."""
    words = {
        name: str(Money(value, details["currency"])) if isinstance(value, int) and "currency" in details else value
        for name, value in details.items()
    }
    if "reason" in words:
        words["reason"] = reason(words["reason"])
    return SENTENCES[kind].format_map(words)
