"""Charges: made by confirming a payment intent, settled a little later."""

from typing import Any

from deploy.stripe_sandbox import balance, blanks, money
from deploy.stripe_sandbox.cards import Card
from deploy.stripe_sandbox.context import INCLUDABLE, Context, new_id
from deploy.stripe_sandbox.errors import invalid
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api, job
from deploy.stripe_sandbox.schema import JSON

_NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}


def make(ctx: Context, intent: JSON, method: JSON, card: Card) -> JSON:
    """Charge the card for the intent, or record that it was declined."""
    ok = card.decline is None
    charge = blanks.CHARGE | {
        "id": new_id("ch"),
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if ok else 0,
        "billing_details": method["billing_details"],
        "captured": ok,
        "created": ctx.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "failure_code": card.decline.code if card.decline else None,
        "failure_message": card.decline.message if card.decline else None,
        "metadata": intent["metadata"],
        "outcome": _outcome(card),
        "paid": ok,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": _card_details(method)},
        "receipt_email": intent["receipt_email"],
        "status": "succeeded" if ok else "failed",
        "transfer_group": intent["transfer_group"],
    }
    ctx.store.insert(ctx.account, charge, {"card": card.number})
    if ok:
        _await_settlement(ctx, charge)
    ctx.emit("charge.succeeded" if ok else "charge.failed", charge)
    return charge


def _await_settlement(ctx: Context, charge: JSON) -> None:
    delay = ctx.setting("balance_transaction_delay")
    if delay == 0:
        settle(ctx, charge, announce=False)
    elif delay > 0:
        ctx.schedule("settle_charge", charge["id"], delay)


def _outcome(card: Card) -> JSON:
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
    if card.decline:
        outcome |= {
            "network_status": "declined_by_network",
            "reason": card.decline.decline_code or card.decline.code,
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    return outcome


def _card_details(method: JSON) -> JSON:
    card = method["card"]
    names = ("brand", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")
    return {name: card[name] for name in names} | {"network": card["brand"], "wallet": None, "installments": None}


def billing(email: str | None, name: str | None) -> JSON:
    return {"address": dict(_NO_ADDRESS), "email": email, "name": name, "phone": None, "tax_id": None}


def settle(ctx: Context, charge: JSON, *, announce: bool = True) -> None:
    """Give a charge its balance transaction."""
    instantly = ctx.store.private(charge["id"]).get("card") == "4000000000000077"
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


@api("GET", "/v1/charges")
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


@api("POST", "/v1/charges/{charge}")
def update_charge(ctx: Context, params: JSON, charge: str) -> JSON:
    found = ctx.get("charge", charge)
    known = {"description", "metadata", "receipt_email", "transfer_group", "customer"}
    for name, value in params.items():
        if name not in known | {"expand"}:
            raise invalid(f"The sandbox does not support updating {name} of a charge.", param=name)
        if name in known:
            found[name] = merged(found["metadata"], value) if name == "metadata" else value or None
    ctx.store.save(found)
    ctx.emit("charge.updated", found)
    return found


def _refunds(ctx: Context, charge: JSON) -> JSON:
    return ctx.page("refund", f"/v1/charges/{charge['id']}/refunds", {}, {"charge = ?": charge["id"]})


INCLUDABLE["charge", "refunds"] = _refunds
