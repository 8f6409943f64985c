"""The hosted payment page, for people: `GET /c/pay/{session}`."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.stripe_sandbox import checkout, money
from deploy.stripe_sandbox.context import Context
from deploy.stripe_sandbox.control import TheSandbox, session_context
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.params import EMAIL
from deploy.stripe_sandbox.schema import JSON

router = APIRouter(prefix="/c/pay/{session_id}", include_in_schema=False)
templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
templates.filters["money"] = lambda amount, code: money.display(amount, code)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_EXPIRY = re.compile(r"^\s*(\d{1,2})\s*/\s*(\d{2}|\d{4})\s*$")


def _render(template: str, ctx: Context, session: JSON, status: int = 200, **values: Any) -> HTMLResponse:
    lines = ctx.store.private(session["id"])["line_items"]
    html = templates.get_template(template).render(session=session, lines=lines, **values)
    return HTMLResponse(html, status, headers=HEADERS)


def _form(
    ctx: Context, session: JSON, status: int = 200, *, errors: dict[str, str] | None = None, **typed: str
) -> HTMLResponse:
    values = {"email": session["customer_email"] or "", "name": "", "expiry": ""} | typed
    return _render("pay.html", ctx, session, status, errors=errors or {}, values=values)


def _closed(ctx: Context, session: JSON) -> Response | None:
    """What to show instead of the form when there is nothing to pay any more."""
    if session["status"] == "expired":
        return _render("expired.html", ctx, session, 410)
    if session["status"] == "complete":
        return _render("paid.html", ctx, session, back=_success_url(session))
    return None


def _success_url(session: JSON) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _waits_for_authentication(ctx: Context, session: JSON) -> bool:
    intent = session["payment_intent"]
    return bool(intent) and ctx.get("payment_intent", intent)["status"] == "requires_action"


@router.get("")
async def show(sandbox: TheSandbox, session_id: str) -> Response:
    try:
        ctx, session = session_context(sandbox, session_id)
    except StripeError:
        return _unknown()
    return _closed(ctx, session) or _form(ctx, session)


def _unknown() -> Response:
    return HTMLResponse(templates.get_template("missing.html").render(), 404, headers=HEADERS)


@router.post("")
async def submit(
    sandbox: TheSandbox,
    session_id: str,
    card: Annotated[str, Form()] = "",
    expiry: Annotated[str, Form()] = "",
    cvc: Annotated[str, Form()] = "",
    name: Annotated[str, Form()] = "",
    email: Annotated[str, Form()] = "",
) -> Response:
    with sandbox.store.transaction():
        try:
            ctx, session = session_context(sandbox, session_id)
        except StripeError:
            return _unknown()
        if closed := _closed(ctx, session):
            return closed
        typed = {"email": email, "name": name, "expiry": expiry}
        if errors := _mistakes(card, expiry, cvc, email, name, ctx.now):
            return _form(ctx, session, 422, errors=errors, **typed)
        outcome = checkout.pay(ctx, session, card, email=email, name=name)
        if outcome == "declined":
            problem = ctx.get("payment_intent", session["payment_intent"])["last_payment_error"]
            response: Response = _form(ctx, session, 402, errors=_explain(problem), **typed)
        else:
            response = _redirect(
                f"/c/pay/{session_id}/authenticate" if outcome == "requires_action" else _success_url(session)
            )
    sandbox.wake()
    return response


def _explain(problem: JSON) -> dict[str, str]:
    fields = {"incorrect_number": "card", "expired_card": "expiry", "incorrect_cvc": "cvc"}
    return {fields.get(problem.get("code", ""), "form"): problem["message"]}


def _mistakes(card: str, expiry: str, cvc: str, email: str, name: str, now: int) -> dict[str, str]:
    """What is wrong with the form, per field."""
    errors = {}
    if not EMAIL.fullmatch(email.strip()):
        errors["email"] = "Enter the e-mail address for your receipt."
    if not 12 <= sum(character.isdecimal() for character in card) <= 19:
        errors["card"] = "Your card number is incomplete."
    if not (match := _EXPIRY.match(expiry)) or not 1 <= int(match[1]) <= 12:
        errors["expiry"] = "Enter the expiry date as MM / YY."
    elif _month(int(match[2]) % 100, int(match[1])) < _month_of(now):
        errors["expiry"] = "Your card's expiry date is in the past."
    if not cvc.strip().isdecimal() or len(cvc.strip()) not in (3, 4):
        errors["cvc"] = "Your card's security code is incomplete."
    if not name.strip():
        errors["name"] = "Enter the name on the card."
    return errors


def _month(year: int, month: int) -> int:
    return (2000 + year) * 12 + month


def _month_of(now: int) -> int:
    today = datetime.fromtimestamp(now, UTC)
    return today.year * 12 + today.month


@router.get("/authenticate")
async def show_authentication(sandbox: TheSandbox, session_id: str) -> Response:
    try:
        ctx, session = session_context(sandbox, session_id)
    except StripeError:
        return _unknown()
    if closed := _closed(ctx, session):
        return closed
    if not _waits_for_authentication(ctx, session):
        return _redirect(f"/c/pay/{session_id}")
    return _render("authenticate.html", ctx, session)


@router.post("/authenticate")
async def submit_authentication(
    sandbox: TheSandbox, session_id: str, answer: Annotated[str, Form()] = "fail"
) -> Response:
    with sandbox.store.transaction():
        try:
            ctx, session = session_context(sandbox, session_id)
        except StripeError:
            return _unknown()
        if closed := _closed(ctx, session):
            return closed
        if not _waits_for_authentication(ctx, session):
            return _redirect(f"/c/pay/{session_id}")
        outcome, message = checkout.authenticate(ctx, session, passed=answer == "complete")
        if outcome == "succeeded":
            response: Response = _redirect(_success_url(session))
        else:
            response = _form(ctx, session, 402, errors={"form": message})
    sandbox.wake()
    return response


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, headers=HEADERS)
