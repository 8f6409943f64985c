"""Pages people are sent to: by a mailed link, and by Stripe after the checkout.

The mailed link verifies on a click, because mail scanners follow links by themselves. The page after the checkout
grants and reveals nothing: whether money came is Stripe's word to the order's process, not the browser's.
"""

import base64
import hashlib
from html import escape
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse

from api.deps import Container, Tx, public
from core import clock
from core.security.tokens import VERIFY_EMAIL
from domain.errors import DomainError
from services import identity

router = APIRouter(include_in_schema=False, dependencies=[public])

_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:30rem;margin:15vh auto;padding:0 1rem;text-align:center}"
    "button{font:inherit;padding:.6rem 1.6rem;border:0;border-radius:.4rem;background:#1f4b99;color:#fff}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'"
    )
}


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{escape(title)}</h1>{body}</html>"
    )
    return HTMLResponse(html, status, headers=_HEADERS)


@router.get("/verify-email")
async def ask(token: Annotated[str, Query(max_length=2048)]) -> HTMLResponse:
    """Asks for the click."""
    form = (
        f'<form method="post" action="/verify-email"><input type="hidden" name="token" value="{escape(token)}">'
        "<button>Confirm my address</button></form>"
    )
    return _page("Confirm your e-mail address", form)


@router.post("/verify-email")
async def confirm(token: Annotated[str, Form(max_length=2048)], container: Container, session: Tx) -> HTMLResponse:
    """Verifies the address and says so."""
    try:
        email = await identity.verify_email(session, container.tokens.read_email(VERIFY_EMAIL, token), now=clock.now())
    except DomainError as error:
        return _page(error.title, f"<p>{escape(error.detail)}</p>", status=422)
    return _page("Thank you", f"<p>{escape(email)} is confirmed. You can sign in now.</p>")


@router.get("/checkout/{order_id}")
async def after_checkout(order_id: UUID, outcome: Literal["success", "cancel"] = "success") -> HTMLResponse:
    """What happens next."""
    if outcome == "cancel":
        return _page("Nothing was paid", "<p>Your seats stay held until the payment page expires.</p>")
    return _page("Thank you", "<p>Your courses open as soon as Stripe confirms the payment. We send you a receipt.</p>")
