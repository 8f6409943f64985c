"""The sandbox's front page, for people: the newest payment pages, and where the controls are."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from deploy.stripe_sandbox.control import TheSandbox
from deploy.stripe_sandbox.page import HEADERS, templates
from deploy.stripe_sandbox.sandbox import Sandbox
from deploy.stripe_sandbox.schema import JSON

router = APIRouter(include_in_schema=False)

_SHOWN = 50


@router.get("/")
async def show(sandbox: TheSandbox) -> HTMLResponse:
    sessions = sandbox.store.select(None, "checkout.session", {}, limit=_SHOWN)
    html = templates.get_template("front.html").render(
        rows=[_row(sandbox, session) for session in sessions], now=_moment(sandbox.clock.now(None))
    )
    return HTMLResponse(html, headers=HEADERS)


def _row(sandbox: Sandbox, session: JSON) -> dict[str, Any]:
    lines = sandbox.store.private(session["id"])["line_items"]
    return {
        "session": session,
        "what": ", ".join(line["description"] for line in lines),
        "state": "paid" if session["payment_status"] == "paid" else session["status"],
        "created": _moment(session["created"]),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %H:%M:%S")
