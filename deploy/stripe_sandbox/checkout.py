"""Checkout Sessions: what a customer is asked to pay for, for how long, and what came of it."""

from typing import Any

from deploy.stripe_sandbox import blanks, intents
from deploy.stripe_sandbox.cards import lookup
from deploy.stripe_sandbox.catalog import price_of_line
from deploy.stripe_sandbox.context import CURSORS, INCLUDABLE, PAGE, Context, limit_of, new_id
from deploy.stripe_sandbox.errors import invalid, missing, refused
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.params import only
from deploy.stripe_sandbox.registry import api, job
from deploy.stripe_sandbox.schema import JSON

MIN_LIFE, MAX_LIFE = 30 * 60, 24 * 3600
_MAX_LINES = 100
_INTENT_DATA = {"description", "metadata", "receipt_email", "transfer_group"}


def _check_supported(params: JSON) -> None:
    only(params.get("payment_intent_data", {}), _INTENT_DATA, "payment_intent_data")
    if params.get("mode", "payment") != "payment":
        raise invalid("The sandbox supports mode=payment only.", param="mode")
    if params.get("ui_mode", "hosted_page") != "hosted_page":
        raise invalid("The sandbox supports ui_mode=hosted_page only.", param="ui_mode")


def _check(params: JSON) -> None:
    for name in ("mode", "success_url", "line_items"):
        if not params.get(name):
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    if "customer" in params and "customer_email" in params:
        raise invalid("You may only specify one of these parameters: customer, customer_email.", param="customer")
    if len(params.get("client_reference_id", "")) > 200:
        raise invalid("Invalid string: must be at most 200 characters", param="client_reference_id")
    for name in ("success_url", "cancel_url"):
        if not params.get(name, "https://").startswith(("http://", "https://")):
            raise invalid("Not a valid URL", code="url_invalid", param=name)
    if len(params["line_items"]) > _MAX_LINES:
        raise invalid(f"You may specify up to {_MAX_LINES} line items.", param="line_items")


def _deadline(ctx: Context, params: JSON) -> int:
    """Callers live in wall time, whatever the sandbox's clock says."""
    wall = int(ctx.clock.wall())
    expires_at: int = params.get("expires_at", wall + MAX_LIFE)
    if expires_at < wall + MIN_LIFE:
        raise invalid(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.", param="expires_at"
        )
    if expires_at > wall + MAX_LIFE:
        raise invalid(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.", param="expires_at"
        )
    return expires_at


def _line(ctx: Context, number: int, item: JSON) -> JSON:
    where = f"line_items[{number}]"
    only(item, ("price", "price_data", "quantity", "metadata"), where)
    if "quantity" not in item:
        raise invalid(f"Missing required param: {where}[quantity].", code="parameter_missing", param=where)
    if item["quantity"] < 1:
        raise invalid("This value must be greater than or equal to 1.", param=f"{where}[quantity]")
    price, description = price_of_line(ctx, where, item)
    amount = price["unit_amount"] * item["quantity"]
    return {
        "id": new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": price["currency"],
        "description": description,
        "metadata": merged({}, item),
        "price": price,
        "quantity": item["quantity"],
    }


@api(
    "POST",
    "/v1/checkout/sessions",
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_email",
    "expires_at",
    "line_items",
    "metadata",
    "mode",
    "payment_intent_data",
    "success_url",
    "ui_mode",
)
def create_session(ctx: Context, params: JSON) -> JSON:
    _check_supported(params)
    _check(params)
    expires_at = _deadline(ctx, params)
    if customer := params.get("customer"):
        ctx.get("customer", customer, "customer")
    lines = [_line(ctx, number, item) for number, item in enumerate(params["line_items"])]
    currencies = {line["currency"] for line in lines}
    if len(currencies) != 1:
        raise invalid("All line items must use the same currency.", param="line_items")
    total = sum(line["amount_total"] for line in lines)
    currency = currencies.pop()
    intents.check_amount(total, currency, "line_items")
    session = _render(ctx, params, total, currency, expires_at)
    data = params.get("payment_intent_data", {})
    data["metadata"] = merged({}, data)
    extra = {"line_items": lines, "payment_intent_data": data, "base_url": ctx.base_url}
    ctx.store.insert(ctx.account, session, extra)
    ctx.schedule("expire_session", session["id"], expires_at - ctx.clock.wall())
    return session


def _render(ctx: Context, params: JSON, total: int, currency: str, expires_at: int) -> JSON:
    session_id = new_id("cs_test", 58)
    email = params.get("customer_email")
    return blanks.SESSION | {
        "id": session_id,
        "amount_subtotal": total,
        "amount_total": total,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": ctx.now,
        "currency": currency,
        "customer": params.get("customer"),
        "customer_creation": None if "customer" in params else "if_required",
        "customer_details": _customer_details(email, None) if email else None,
        "customer_email": email,
        "expires_at": expires_at,
        "metadata": merged({}, params),
        "success_url": params["success_url"],
        "url": f"{ctx.base_url}/c/pay/{session_id}",
    }


def _customer_details(email: str | None, name: str | None) -> JSON:
    return {
        "address": None,
        "email": email,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": None,
    }


def pay(
    ctx: Context,
    session: JSON,
    number: str,
    *,
    email: str | None = None,
    name: str | None = None,
    amount: int | None = None,
    currency: str | None = None,
    late: bool = False,
) -> intents.Outcome:
    """Try to pay a session with a card or from a bank account. `amount` and `currency` forge a payment of another sum;
    `late` pays an expired session all the same."""
    if session["status"] != "open" and not (late and session["status"] == "expired"):
        raise refused(f"This Checkout Session is {session['status']} and cannot be paid.")
    session["amount_total"] = amount if amount is not None else session["amount_total"]
    session["currency"] = currency or session["currency"]
    session["customer_details"] = _customer_details(email or session["customer_email"], name)
    intent = _intent_of(ctx, session)
    method = intents.attach(ctx, lookup(number), email=email or session["customer_email"], name=name)
    outcome = intents.confirm(ctx, intent, method)
    if outcome in ("succeeded", "processing"):
        complete(ctx, session, paid=outcome == "succeeded")
    return outcome


def _intent_of(ctx: Context, session: JSON) -> JSON:
    """The session's payment intent: opened at the first attempt, and again when an expiry canceled it."""
    intent = ctx.get("payment_intent", session["payment_intent"]) if session["payment_intent"] else None
    if intent is None or intent["status"] == "canceled":
        data = ctx.store.private(session["id"])["payment_intent_data"]
        intent = intents.open_intent(
            ctx, session["amount_total"], session["currency"], customer=session["customer"], **data
        )
        session["payment_intent"] = intent["id"]
    intent["amount"], intent["currency"] = session["amount_total"], session["currency"]
    ctx.store.save(session)
    return intent


def authenticate(ctx: Context, session: JSON, *, passed: bool) -> tuple[intents.Outcome, str]:
    """The customer comes back from 3-D Secure; answers the outcome and what to tell them."""
    intent = ctx.get("payment_intent", session["payment_intent"] or "")
    if session["status"] != "open" or intent["status"] != "requires_action":
        raise refused("This Checkout Session is not waiting for authentication.")
    if not passed:
        return "declined", intents.fail_authentication(ctx, intent)
    outcome = intents.confirm(ctx, intent, ctx.get("payment_method", intent["payment_method"]), authenticated=True)
    if outcome == "succeeded":
        complete(ctx, session, paid=True)
    return outcome, (intent["last_payment_error"] or {}).get("message", "")


def complete(ctx: Context, session: JSON, *, paid: bool) -> None:
    """The customer has done their part; a bank debit is not `paid` yet."""
    session |= {"status": "complete", "payment_status": "paid" if paid else "unpaid", "url": None}
    ctx.store.save(session)
    ctx.store.execute("delete from jobs where subject = ?", session["id"])
    ctx.emit("checkout.session.completed", session)


@job("finish_debit")
def finish_debit_when_due(ctx: Context, subject: str) -> None:
    paid = intents.finish_debit(ctx, ctx.get("payment_intent", subject)) == "succeeded"
    for session in ctx.store.select(ctx.account, "checkout.session", {"payment_intent = ?": subject}, limit=1):
        if paid:
            session["payment_status"] = "paid"
            ctx.store.save(session)
        ctx.emit(f"checkout.session.async_payment_{'succeeded' if paid else 'failed'}", session)


def expire(ctx: Context, session: JSON) -> None:
    session |= {"status": "expired", "url": None}
    ctx.store.save(session)
    ctx.store.execute("delete from jobs where subject = ?", session["id"])
    if session["payment_intent"]:
        intents.cancel(ctx, ctx.get("payment_intent", session["payment_intent"]), "expired")
    ctx.emit("checkout.session.expired", session)


@job("expire_session")
def expire_when_due(ctx: Context, subject: str) -> None:
    session = ctx.get("checkout.session", subject)
    if session["status"] == "open":
        expire(ctx, session)


@api("GET", "/v1/checkout/sessions", *PAGE, "customer", "customer_details", "payment_intent", "status")
def list_sessions(ctx: Context, params: JSON) -> JSON:
    filters: dict[str, Any] = {
        "customer = ?": params.get("customer"),
        "payment_intent = ?": params.get("payment_intent"),
        "status = ?": params.get("status"),
        "data ->> '$.customer_details.email' = ?": params.get("customer_details", {}).get("email"),
    }
    return ctx.page("checkout.session", "/v1/checkout/sessions", params, filters)


@api("GET", "/v1/checkout/sessions/{session}")
def retrieve_session(ctx: Context, params: JSON, session: str) -> JSON:
    return ctx.get("checkout.session", session)


@api("POST", "/v1/checkout/sessions/{session}", "metadata")
def update_session(ctx: Context, params: JSON, session: str) -> JSON:
    found = ctx.get("checkout.session", session)
    found["metadata"] = merged(found["metadata"], params)
    ctx.store.save(found)
    return found


@api("POST", "/v1/checkout/sessions/{session}/expire")
def expire_session(ctx: Context, params: JSON, session: str) -> JSON:
    found = ctx.get("checkout.session", session)
    if found["status"] != "open":
        raise refused(
            f'Only Checkout Sessions with a status in ["open"] can be expired. '
            f"This Checkout Session has a status of `{found['status']}`.",
        )
    expire(ctx, found)
    return found


@api("GET", "/v1/checkout/sessions/{session}/line_items", *CURSORS)
def list_line_items(ctx: Context, params: JSON, session: str) -> JSON:
    ctx.get("checkout.session", session)
    limit, lines = limit_of(params), ctx.store.private(session)["line_items"]
    ids = [line["id"] for line in lines]
    for cursor in ("starting_after", "ending_before"):
        if params.get(cursor, ids[0]) not in ids:
            raise missing("line item", params[cursor], cursor)
    if "ending_before" in params:
        lines = lines[: ids.index(params["ending_before"])]
        data = lines[-limit:]
    else:
        lines = lines[ids.index(params["starting_after"]) + 1 :] if "starting_after" in params else lines
        data = lines[:limit]
    url = f"/v1/checkout/sessions/{session}/line_items"
    return {"object": "list", "data": data, "has_more": len(lines) > limit, "url": url}


INCLUDABLE["checkout.session", "line_items"] = lambda ctx, session: list_line_items(ctx, {}, session["id"])
