"""Stripe's objects as the product sees them: small frozen records, integer minor units, lower-case currencies.

Stripe may leave out an optional field instead of sending null, so mappings ask with `.get`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from domain.ledger import Settlement


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """`url` is where the student pays; empty once the session is no longer open."""

    id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ChargeState:
    """`balance_transaction` may arrive after the charge succeeded."""

    id: str
    amount: int
    currency: str
    balance_transaction: Settlement | None


@dataclass(frozen=True, slots=True)
class PaymentState:
    """A payment intent with its latest charge, which failed unless `status` is `succeeded`."""

    id: str
    status: str
    charge: ChargeState | None


@dataclass(frozen=True, slots=True)
class CheckoutState:
    """`status` is open, complete or expired; a complete one may wait for its payment for days."""

    id: str
    status: str
    livemode: bool
    payment_intent: PaymentState | None


@dataclass(frozen=True, slots=True)
class StripeRefund:
    """`status` is pending, requires_action, succeeded, failed or canceled; a succeeded one may still fail."""

    id: str
    status: str
    amount: int
    currency: str
    failure_reason: str | None
    balance_transaction: Settlement | None
    metadata: dict[str, str] = field(default_factory=dict)


def instant_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def session_of(found: dict[str, Any]) -> CheckoutSession:
    return CheckoutSession(
        id=found["id"],
        url=found.get("url") or "",
        expires_at=instant_of(found["expires_at"]),
    )


def checkout_of(found: dict[str, Any]) -> CheckoutState:
    intent = found.get("payment_intent")
    return CheckoutState(
        id=found["id"],
        status=found.get("status") or "open",
        livemode=found["livemode"],
        payment_intent=payment_of(intent) if intent else None,
    )


def payment_of(found: dict[str, Any]) -> PaymentState:
    charge = found.get("latest_charge")
    return PaymentState(id=found["id"], status=found["status"], charge=charge_of(charge) if charge else None)


def charge_of(found: dict[str, Any]) -> ChargeState:
    return ChargeState(
        id=found["id"],
        amount=found["amount"],
        currency=found["currency"],
        balance_transaction=settlement_of(found.get("balance_transaction")),
    )


def settlement_of(found: dict[str, Any] | None) -> Settlement | None:
    if not found:
        return None
    return Settlement(
        txn=found["id"],
        currency=found["currency"],
        gross=found["amount"],
        fee=found["fee"],
        net=found["net"],
        available_on=instant_of(found["available_on"]),
    )


def refund_of(found: dict[str, Any]) -> StripeRefund:
    return StripeRefund(
        id=found["id"],
        status=found.get("status") or "pending",
        amount=found["amount"],
        currency=found["currency"],
        failure_reason=found.get("failure_reason"),
        balance_transaction=settlement_of(found.get("balance_transaction")),
        metadata=dict(found.get("metadata") or {}),
    )
