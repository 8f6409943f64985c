"""Refunds. Stripe keeps the fee of the charge; what is left of a charge bounds what can be given back."""

from typing import Any

from deploy.stripe_sandbox import balance, charges, money
from deploy.stripe_sandbox.cards import lookup
from deploy.stripe_sandbox.context import PAGE, Context, new_id
from deploy.stripe_sandbox.errors import invalid, refused
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api, job
from deploy.stripe_sandbox.schema import JSON


def _check(params: JSON) -> None:
    if not params.get("charge") and not params.get("payment_intent"):
        raise invalid("One of the following params should be provided for this request: payment_intent or charge.")
    if params.get("amount", 1) < 1:
        raise invalid("Invalid positive integer", code="parameter_invalid_integer", param="amount")


def _charge_of(ctx: Context, params: JSON) -> JSON:
    if charge_id := params.get("charge"):
        charge = ctx.get("charge", charge_id, "charge")
    else:
        intent = ctx.get("payment_intent", params["payment_intent"], "payment_intent")
        if intent["status"] != "succeeded":
            raise refused(
                f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.",
                code="payment_intent_unexpected_state",
                param="payment_intent",
            )
        charge = ctx.get("charge", intent["latest_charge"])
    if params.get("payment_intent", charge["payment_intent"]) != charge["payment_intent"]:
        raise invalid("The payment_intent does not belong to the charge.", param="payment_intent")
    if not charge["paid"]:
        raise refused(f"Charge {charge['id']} has not been paid and cannot be refunded.", code="charge_not_refundable")
    if charge["disputed"]:
        raise refused(f"Charge {charge['id']} has been charged back; cannot issue a refund.", code="charge_disputed")
    return charge


def _amount(charge: JSON, asked: int | None) -> int:
    left: int = charge["amount"] - charge["amount_refunded"]
    if charge["refunded"]:
        raise refused(f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded")
    amount = left if asked is None else asked
    if amount > left:
        code = charge["currency"]
        raise refused(
            f"Refund amount ({money.display(amount, code)}) is greater than unrefunded amount on charge "
            f"({money.display(left, code)})",
            param="amount",
        )
    return amount


@api("POST", "/v1/refunds", "amount", "charge", "metadata", "payment_intent", "reason")
def create_refund(ctx: Context, params: JSON) -> JSON:
    _check(params)
    metadata = merged({}, params)
    charge = _charge_of(ctx, params)
    amount = _amount(charge, params.get("amount"))
    if charge["balance_transaction"] is None:
        charges.settle(ctx, charge)
    fate = lookup(ctx.store.private(charge["id"])["card"]).refund
    refund: JSON = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": ctx.now,
        "currency": charge["currency"],
        "destination_details": {
            "type": "card",
            "card": {"type": "refund", "reference_status": "pending", "reference_type": "acquirer_reference_number"},
        },
        "metadata": metadata,
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "pending" if fate == "succeeds_later" else "succeeded",
        "transfer_reversal": None,
    }
    refund["balance_transaction"] = balance.book(ctx, "refund", -amount, charge["currency"], refund["id"])["id"]
    ctx.store.insert(ctx.account, refund)
    _count(ctx, charge, amount)
    if fate != "succeeds":
        ctx.schedule("finish_refund", refund["id"], ctx.setting("refund_delay"))
    ctx.emit("refund.created", refund)
    ctx.emit("charge.refunded", charge)
    return refund


def _count(ctx: Context, charge: JSON, amount: int) -> None:
    """Add to (or take back from) what was refunded of a charge."""
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    ctx.store.save(charge)


@job("finish_refund")
def finish_when_due(ctx: Context, subject: str) -> None:
    refund = ctx.get("refund", subject)
    if refund["status"] == "pending":
        refund["status"] = "succeeded"
        ctx.store.save(refund)
        ctx.emit("refund.updated", refund, {"status": "pending"})
    elif refund["status"] == "succeeded":
        fail(ctx, refund)


def fail(ctx: Context, refund: JSON) -> None:
    """The customer's bank sends the money back."""
    before = refund["status"]
    refund["failure_reason"] = "expired_or_canceled_card"
    _undo(ctx, refund, "failed")
    ctx.emit("refund.failed", refund)
    ctx.emit("refund.updated", refund, {"status": before})
    ctx.emit("charge.refund.updated", refund)


def require_action(ctx: Context, refund: JSON) -> None:
    """The customer has to say where the money shall go; until then the refund can be canceled."""
    before, refund["status"] = refund["status"], "requires_action"
    ctx.store.save(refund)
    ctx.emit("refund.updated", refund, {"status": before})


def _undo(ctx: Context, refund: JSON, status: str) -> None:
    entry = balance.book(ctx, "refund_failure", refund["amount"], refund["currency"], refund["id"])
    refund |= {"status": status, "failure_balance_transaction": entry["id"]}
    ctx.store.save(refund)
    _count(ctx, ctx.get("charge", refund["charge"]), -refund["amount"])


@api("GET", "/v1/refunds", *PAGE, "charge", "payment_intent")
def list_refunds(ctx: Context, params: JSON) -> JSON:
    filters: dict[str, Any] = {
        "charge = ?": params.get("charge"),
        "payment_intent = ?": params.get("payment_intent"),
    }
    return ctx.page("refund", "/v1/refunds", params, filters)


@api("GET", "/v1/refunds/{refund}")
def retrieve_refund(ctx: Context, params: JSON, refund: str) -> JSON:
    return ctx.get("refund", refund)


@api("POST", "/v1/refunds/{refund}", "metadata")
def update_refund(ctx: Context, params: JSON, refund: str) -> JSON:
    found = ctx.get("refund", refund)
    previous = found["metadata"]
    found["metadata"] = merged(previous, params)
    ctx.store.save(found)
    ctx.emit("refund.updated", found, {"metadata": previous})
    return found


@api("POST", "/v1/refunds/{refund}/cancel")
def cancel_refund(ctx: Context, params: JSON, refund: str) -> JSON:
    found = ctx.get("refund", refund)
    if found["status"] != "requires_action":
        raise refused(f"This refund has a status of {found['status']} and cannot be canceled.")
    _undo(ctx, found, "canceled")
    ctx.emit("refund.updated", found, {"status": "requires_action"})
    return found
