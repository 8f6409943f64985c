"""Payment intents: one attempt after another to charge a card or a bank account, until one succeeds."""

from typing import Literal

from deploy.stripe_sandbox import blanks, charges, money
from deploy.stripe_sandbox.cards import METHODS, Card, Decline, lookup
from deploy.stripe_sandbox.context import PAGE, Context, new_id
from deploy.stripe_sandbox.errors import StripeError, invalid, missing, refused
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON

Outcome = Literal["succeeded", "processing", "requires_action", "declined"]
_OPEN = ("requires_payment_method", "requires_confirmation", "requires_action", "requires_capture")
_SETTABLE = {"description", "receipt_email", "transfer_group"}


def open_intent(
    ctx: Context,
    amount: int,
    currency: str,
    *,
    customer: str | None = None,
    metadata: dict[str, str] | None = None,
    description: str | None = None,
    receipt_email: str | None = None,
    transfer_group: str | None = None,
) -> JSON:
    intent_id = new_id("pi")
    intent = blanks.INTENT | {
        "id": intent_id,
        "amount": amount,
        "client_secret": new_id(f"{intent_id}_secret"),
        "created": ctx.now,
        "currency": currency,
        "customer": customer,
        "description": description,
        "metadata": metadata or {},
        "receipt_email": receipt_email,
        "transfer_group": transfer_group,
    }
    ctx.store.insert(ctx.account, intent)
    ctx.emit("payment_intent.created", intent)
    return intent


def attach(ctx: Context, card: Card, *, email: str | None = None, name: str | None = None) -> JSON:
    """A payment method for a card or an account; its number stays the sandbox's secret."""
    method: JSON = {
        "id": new_id("pm"),
        "object": "payment_method",
        "billing_details": charges.billing(email, name),
        "created": ctx.now,
        "customer": None,
        "livemode": False,
        "metadata": {},
        **card.details,
    }
    ctx.store.insert(ctx.account, method, {"card": card.number})
    return method


def confirm(ctx: Context, intent: JSON, method: JSON, *, authenticated: bool = False) -> Outcome:
    """Try to charge the method. The intent is changed in place and saved, and events say how it went."""
    card = lookup(ctx.store.private(method["id"])["card"])
    intent["payment_method"] = method["id"]
    if card.authenticate and not authenticated:
        intent["status"] = "requires_action"
        intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
        ctx.store.save(intent)
        ctx.emit("payment_intent.requires_action", intent)
        return "requires_action"
    charge = charges.make(ctx, intent, method, card)
    intent["latest_charge"], intent["next_action"] = charge["id"], None
    if not card.debit:
        return _conclude(ctx, intent, method, card)
    intent |= {"status": "processing", "last_payment_error": None}
    ctx.store.save(intent)
    ctx.emit("payment_intent.processing", intent)
    ctx.schedule("finish_debit", intent["id"], ctx.setting("debit_delay"))
    return "processing"


def finish_debit(ctx: Context, intent: JSON) -> Outcome:
    """The bank answers; the intent is changed in place."""
    charge = ctx.get("charge", intent["latest_charge"])
    card = lookup(ctx.store.private(charge["id"])["card"])
    charges.conclude(ctx, charge, card)
    return _conclude(ctx, intent, ctx.get("payment_method", intent["payment_method"]), card)


def _conclude(ctx: Context, intent: JSON, method: JSON, card: Card) -> Outcome:
    """What follows from the outcome of its charge."""
    if card.decline:
        _fail(ctx, intent, method, _decline_error(card, card.decline, intent["latest_charge"]))
        return "declined"
    intent |= {"status": "succeeded", "amount_received": intent["amount"], "last_payment_error": None}
    ctx.store.save(intent)
    ctx.emit("payment_intent.succeeded", intent)
    return "succeeded"


def _decline_error(card: Card, decline: Decline, charge_id: str) -> JSON:
    kind = "invalid_request_error" if card.debit else "card_error"
    body = {"charge": charge_id, "code": decline.code, "message": decline.message, "type": kind}
    return body | ({"decline_code": decline.decline_code} if decline.decline_code else {})


def _fail(ctx: Context, intent: JSON, method: JSON, error: JSON) -> None:
    intent |= {
        "status": "requires_payment_method",
        "payment_method": None,
        "next_action": None,
        "last_payment_error": error | {"payment_method": method},
    }
    ctx.store.save(intent)
    ctx.emit("payment_intent.payment_failed", intent)


def fail_authentication(ctx: Context, intent: JSON) -> str:
    """The customer did not pass 3-D Secure; answers what to tell them."""
    message = (
        "We are unable to authenticate your payment method. Please choose a different payment method and try again."
    )
    method = ctx.get("payment_method", intent["payment_method"])
    error = {"code": "payment_intent_authentication_failure", "message": message, "type": "invalid_request_error"}
    _fail(ctx, intent, method, error)
    return message


def cancel(ctx: Context, intent: JSON, reason: str | None) -> None:
    intent |= {"status": "canceled", "canceled_at": ctx.now, "cancellation_reason": reason, "next_action": None}
    ctx.store.save(intent)
    ctx.emit("payment_intent.canceled", intent)


def check_amount(amount: int, currency: str, param: str = "amount") -> None:
    terms = money.currency(currency)
    if amount < 1:
        raise invalid("This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=param)
    if amount < terms.minimum:
        least = money.display(terms.minimum, currency)
        raise invalid(f"Amount must be at least {least} {currency}", code="amount_too_small", param=param)
    if amount > 99_999_999:
        raise invalid("Amount must be no more than 999,999.99", code="amount_too_large", param=param)


def check_currency(code: str, param: str = "currency") -> str:
    if code.lower() not in money.CURRENCIES:
        raise invalid(f"Invalid currency: {code}.", param=param)
    return code.lower()


@api(
    "POST", "/v1/payment_intents", *_SETTABLE, "amount", "confirm", "currency", "customer", "metadata", "payment_method"
)
def create_intent(ctx: Context, params: JSON) -> JSON:
    if "payment_method" in params and not params.get("confirm"):
        raise invalid("The sandbox supports payment_method with confirm=true only.", param="payment_method")
    currency = check_currency(params["currency"])
    check_amount(params["amount"], currency)
    if customer := params.get("customer"):
        ctx.get("customer", customer, "customer")
    intent = open_intent(
        ctx,
        params["amount"],
        currency,
        customer=customer,
        metadata=merged({}, params),
        description=params.get("description"),
        receipt_email=params.get("receipt_email"),
        transfer_group=params.get("transfer_group"),
    )
    if params.get("confirm"):
        return confirm_intent(ctx, {"payment_method": params.get("payment_method")}, intent["id"])
    return intent


@api("GET", "/v1/payment_intents", *PAGE, "customer")
def list_intents(ctx: Context, params: JSON) -> JSON:
    return ctx.page("payment_intent", "/v1/payment_intents", params, {"customer = ?": params.get("customer")})


@api("GET", "/v1/payment_intents/{intent}")
def retrieve_intent(ctx: Context, params: JSON, intent: str) -> JSON:
    return ctx.get("payment_intent", intent)


@api("POST", "/v1/payment_intents/{intent}", *_SETTABLE, "amount", "metadata")
def update_intent(ctx: Context, params: JSON, intent: str) -> JSON:
    found = ctx.get("payment_intent", intent)
    if "amount" in params:
        if found["status"] not in _OPEN:
            raise _unexpected_state(found, "amount could not be updated")
        check_amount(params["amount"], found["currency"])
    found |= {name: params[name] for name in (_SETTABLE | {"amount"}) & params.keys()}
    found["metadata"] = merged(found["metadata"], params)
    ctx.store.save(found)
    return found


@api("POST", "/v1/payment_intents/{intent}/confirm", "payment_method")
def confirm_intent(ctx: Context, params: JSON, intent: str) -> JSON:
    found = ctx.get("payment_intent", intent)
    if found["status"] not in ("requires_payment_method", "requires_confirmation"):
        raise _unexpected_state(found, "confirm")
    reference = params.get("payment_method")
    if not reference:
        raise refused(
            "You cannot confirm this PaymentIntent because it's missing a payment method.",
            code="payment_intent_unexpected_state",
        )
    method = attach(ctx, lookup(METHODS[reference])) if reference in METHODS else ctx.store.find(reference, ctx.account)
    if method is None or method["object"] != "payment_method":
        raise missing("PaymentMethod", reference, "payment_method")
    if confirm(ctx, found, method) == "declined":
        error = {name: value for name, value in found["last_payment_error"].items() if name != "type"}
        raise StripeError(402, "card_error", error.pop("message"), commit=True, payment_intent=found, **error)
    return found


@api("POST", "/v1/payment_intents/{intent}/cancel", "cancellation_reason")
def cancel_intent(ctx: Context, params: JSON, intent: str) -> JSON:
    found = ctx.get("payment_intent", intent)
    if found["status"] not in _OPEN:
        raise _unexpected_state(found, "cancel")
    cancel(ctx, found, params.get("cancellation_reason"))
    return found


def _unexpected_state(intent: JSON, action: str) -> StripeError:
    return refused(
        f"You cannot {action} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
    )
