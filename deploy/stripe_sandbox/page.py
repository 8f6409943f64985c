"""The hosted payment page, for people: `GET /c/pay/{session}`."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deploy.stripe_sandbox import checkout, money
from deploy.stripe_sandbox.context import Context
from deploy.stripe_sandbox.control import TheSandbox, session_context
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.params import EMAIL
from deploy.stripe_sandbox.sandbox import Sandbox
from deploy.stripe_sandbox.schema import JSON

router = APIRouter(prefix="/c/pay/{session_id}", include_in_schema=False)
templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
templates.filters["money"] = money.display
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


class Instead(Exception):
    """What to show in place of what was asked for."""

    def __init__(self, response: Response) -> None:
        self.response = response


async def instead(_: Request, shown: Instead) -> Response:
    return shown.response


def _payable(sandbox: Sandbox, session_id: str) -> tuple[Context, JSON]:
    """A session that can be paid. Instead when there is nothing to pay."""
    try:
        ctx, session = session_context(sandbox, session_id)
    except StripeError:
        raise Instead(HTMLResponse(templates.get_template("missing.html").render(), 404, headers=HEADERS)) from None
    if session["status"] == "expired":
        raise Instead(_render("expired.html", ctx, session, 410))
    if session["status"] == "complete":
        raise Instead(_render("paid.html", ctx, session, back=_success_url(session)))
    return ctx, session


def _questioned(sandbox: Sandbox, session_id: str) -> tuple[Context, JSON]:
    """A session that waits for 3-D Secure. Instead when it does not."""
    ctx, session = _payable(sandbox, session_id)
    intent = session["payment_intent"]
    if not intent or ctx.get("payment_intent", intent)["status"] != "requires_action":
        raise Instead(_redirect(f"/c/pay/{session_id}"))
    return ctx, session


def _success_url(session: JSON) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


@router.get("")
async def show(sandbox: TheSandbox, session_id: str) -> Response:
    return _form(*_payable(sandbox, session_id))


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
        ctx, session = _payable(sandbox, session_id)
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
    return _render("authenticate.html", *_questioned(sandbox, session_id))


@router.post("/authenticate")
async def submit_authentication(
    sandbox: TheSandbox, session_id: str, answer: Annotated[str, Form()] = "fail"
) -> Response:
    with sandbox.store.transaction():
        ctx, session = _questioned(sandbox, session_id)
        outcome, message = checkout.authenticate(ctx, session, passed=answer == "complete")
        if outcome == "succeeded":
            response: Response = _redirect(_success_url(session))
        else:
            response = _form(ctx, session, 402, errors={"form": message})
    sandbox.wake()
    return response


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 303, headers=HEADERS)
