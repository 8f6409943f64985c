"""Charges: made by confirming a payment intent, settled a little later."""

from typing import Any

from deploy.stripe_sandbox import balance, blanks, money
from deploy.stripe_sandbox.cards import Card, Decline, lookup
from deploy.stripe_sandbox.context import INCLUDABLE, PAGE, Context, new_id
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api, job
from deploy.stripe_sandbox.schema import JSON

_SETTABLE = {"description", "receipt_email", "transfer_group"}
_NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}


def make(ctx: Context, intent: JSON, method: JSON, card: Card) -> JSON:
    """Charge the card for the intent, or record that it was declined; a bank account's charge is pending."""
    charge = blanks.CHARGE | {
        "id": new_id("ch"),
        "amount": intent["amount"],
        "billing_details": method["billing_details"],
        "created": ctx.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "metadata": intent["metadata"],
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": _method_details(method),
        "receipt_email": intent["receipt_email"],
        "transfer_group": intent["transfer_group"],
    }
    charge |= _pending(charge) if card.debit else _result(charge, card)
    ctx.store.insert(ctx.account, charge, {"card": card.number})
    _announce(ctx, charge)
    return charge


def conclude(ctx: Context, charge: JSON, card: Card) -> None:
    """The bank says whether it pays a pending charge."""
    charge |= _result(charge, card)
    ctx.store.save(charge)
    _announce(ctx, charge)


def _pending(charge: JSON) -> JSON:
    """Stripe calls a bank debit captured from the start, and paid when its bank has paid."""
    taken = {"amount_captured": charge["amount"], "captured": True, "paid": False, "status": "pending"}
    return taken | {"failure_code": None, "failure_message": None, "outcome": _outcome(None)}


def _result(charge: JSON, card: Card) -> JSON:
    if card.decline is None:
        return _pending(charge) | {"paid": True, "status": "succeeded"}
    return {
        "amount_captured": charge["amount"] if card.debit else 0,
        "captured": card.debit,
        "failure_code": card.decline.code,
        "failure_message": card.decline.message,
        "outcome": _outcome(card.decline),
        "paid": False,
        "status": "failed",
    }


def _announce(ctx: Context, charge: JSON) -> None:
    if charge["paid"]:
        _await_settlement(ctx, charge)
    ctx.emit(f"charge.{charge['status']}", charge)


def _await_settlement(ctx: Context, charge: JSON) -> None:
    delay = ctx.setting("balance_transaction_delay")
    if delay == 0:
        settle(ctx, charge, announce=False)
    elif delay > 0:
        ctx.schedule("settle_charge", charge["id"], delay)


def _outcome(decline: Decline | None) -> JSON:
    outcome: dict[str, Any] = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "risk_score": 12,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if decline:
        outcome |= {
            "network_status": "declined_by_network",
            "reason": decline.decline_code or decline.code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    return outcome


def _method_details(method: JSON) -> JSON:
    kind = method["type"]
    details = method[kind]
    if kind == "card":
        details = details | {"network": details["brand"], "wallet": None, "installments": None}
    return {"type": kind, kind: details}


def billing(email: str | None, name: str | None) -> JSON:
    return {"address": dict(_NO_ADDRESS), "email": email, "name": name, "phone": None, "tax_id": None}


def settle(ctx: Context, charge: JSON, *, announce: bool = True) -> None:
    """Give a charge its balance transaction."""
    instantly = lookup(ctx.store.private(charge["id"])["card"]).instantly_available
    entry = balance.book(
        ctx,
        "charge",
        charge["amount"],
        charge["currency"],
        charge["id"],
        fee=money.fee(charge["amount"], charge["currency"]),
        delay=0 if instantly else ctx.setting("available_delay"),
    )
    charge["balance_transaction"] = entry["id"]
    ctx.store.save(charge)
    if announce:
        ctx.emit("charge.updated", charge, {"balance_transaction": None})


@job("settle_charge")
def settle_when_due(ctx: Context, subject: str) -> None:
    charge = ctx.get("charge", subject)
    if charge["balance_transaction"] is None:
        settle(ctx, charge)


@api("GET", "/v1/charges", *PAGE, "customer", "payment_intent", "transfer_group")
def list_charges(ctx: Context, params: JSON) -> JSON:
    filters = {
        "customer = ?": params.get("customer"),
        "payment_intent = ?": params.get("payment_intent"),
        "data ->> 'transfer_group' = ?": params.get("transfer_group"),
    }
    return ctx.page("charge", "/v1/charges", params, filters)


@api("GET", "/v1/charges/{charge}")
def retrieve_charge(ctx: Context, params: JSON, charge: str) -> JSON:
    return ctx.get("charge", charge)


@api("POST", "/v1/charges/{charge}", *_SETTABLE, "metadata")
def update_charge(ctx: Context, params: JSON, charge: str) -> JSON:
    found = ctx.get("charge", charge)
    found |= {name: params[name] for name in _SETTABLE & params.keys()}
    found["metadata"] = merged(found["metadata"], params)
    ctx.store.save(found)
    ctx.emit("charge.updated", found)
    return found


def _refunds(ctx: Context, charge: JSON) -> JSON:
    return ctx.page("refund", f"/v1/charges/{charge['id']}/refunds", {}, {"charge = ?": charge["id"]})


INCLUDABLE["charge", "refunds"] = _refunds
