"""Stripe's objects as the product sees them: small frozen records, integer minor units, lower-case currencies.

Stripe may leave out an optional field instead of sending null, so mappings ask with `.get`.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """`url` is where the student pays; empty once the session is no longer open."""

    id: str
    url: str
    expires_at: datetime
    status: str


@dataclass(frozen=True, slots=True)
class BalanceTxn:
    """What a charge or refund did to the platform's balance: `net` = `amount` - `fee`."""

    id: str
    amount: int
    fee: int
    net: int
    currency: str
    available_on: datetime


@dataclass(frozen=True, slots=True)
class ChargeState:
    """`balance_transaction` may arrive after the charge succeeded."""

    id: str
    amount: int
    currency: str
    paid: bool
    refunded: bool
    amount_refunded: int
    balance_transaction: BalanceTxn | None


@dataclass(frozen=True, slots=True)
class PaymentState:
    id: str
    status: str
    charge: ChargeState | None


@dataclass(frozen=True, slots=True)
class CheckoutState:
    """`status` is open, complete or expired; `payment_status` paid, unpaid or no_payment_required."""

    id: str
    status: str
    payment_status: str
    amount_total: int
    currency: str
    livemode: bool
    order_id: UUID | None
    payment_intent: PaymentState | None


@dataclass(frozen=True, slots=True)
class RefundState:
    """`status` is pending, requires_action, succeeded, failed or canceled; a succeeded one may still fail."""

    id: str
    status: str
    amount: int
    currency: str
    charge_id: str | None
    payment_intent_id: str | None
    failure_reason: str | None
    balance_transaction: BalanceTxn | None
    metadata: dict[str, str] = field(default_factory=dict)


def instant_of(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def order_id_of(data: dict[str, Any]) -> UUID | None:
    text = data.get("client_reference_id") or (data.get("metadata") or {}).get("order_id") or ""
    try:
        return UUID(text)
    except ValueError:
        return None


def session_of(found: dict[str, Any]) -> CheckoutSession:
    return CheckoutSession(
        id=found["id"],
        url=found.get("url") or "",
        expires_at=instant_of(found["expires_at"]),
        status=found.get("status") or "open",
    )


def checkout_of(found: dict[str, Any]) -> CheckoutState:
    intent = found.get("payment_intent")
    return CheckoutState(
        id=found["id"],
        status=found.get("status") or "open",
        payment_status=found["payment_status"],
        amount_total=found.get("amount_total") or 0,
        currency=found.get("currency") or "",
        livemode=found["livemode"],
        order_id=order_id_of(found),
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
        paid=found["paid"],
        refunded=found["refunded"],
        amount_refunded=found["amount_refunded"],
        balance_transaction=balance_txn_of(found.get("balance_transaction")),
    )


def balance_txn_of(found: dict[str, Any] | None) -> BalanceTxn | None:
    if not found:
        return None
    return BalanceTxn(
        id=found["id"],
        amount=found["amount"],
        fee=found["fee"],
        net=found["net"],
        currency=found["currency"],
        available_on=instant_of(found["available_on"]),
    )


def refund_of(found: dict[str, Any]) -> RefundState:
    return RefundState(
        id=found["id"],
        status=found.get("status") or "pending",
        amount=found["amount"],
        currency=found["currency"],
        charge_id=found.get("charge"),
        payment_intent_id=found.get("payment_intent"),
        failure_reason=found.get("failure_reason"),
        balance_transaction=balance_txn_of(found.get("balance_transaction")),
        metadata=dict(found.get("metadata") or {}),
    )
