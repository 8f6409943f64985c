"""The control plane under `/_sandbox`, for tests, demos and people: clock, faults, deliveries, payments, dumps.

With `Authorization: Bearer sk_test_…` a call concerns that account, without it all accounts.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from deploy.stripe_sandbox import checkout, endpoints, refunds
from deploy.stripe_sandbox.context import Context, change_settings, new_id, settings_of
from deploy.stripe_sandbox.errors import StripeError, invalid, missing, refused
from deploy.stripe_sandbox.faults import DeliveryFaults, Fault
from deploy.stripe_sandbox.sandbox import Sandbox, account_of
from deploy.stripe_sandbox.schema import JSON

router = APIRouter()


def _sandbox(request: Request) -> Sandbox:
    found: Sandbox = request.app.state.sandbox
    return found


def _scope(request: Request) -> str | None:
    _, _, key = request.headers.get("authorization", "").partition(" ")
    return account_of(key) if key else None


TheSandbox = Annotated[Sandbox, Depends(_sandbox)]
Scope = Annotated[str | None, Depends(_scope)]


class Advance(BaseModel):
    model_config = ConfigDict(extra="forbid")

    advance_seconds: float = Field(ge=0)


class Payment(BaseModel):
    """`card` is a card's or a bank account's number; `authenticate` answers a 3-D Secure question at once; `amount` and
    `currency` forge another sum."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    card: str
    email: str | None = None
    name: str | None = None
    authenticate: bool | None = None
    amount: int | None = Field(default=None, ge=1)
    currency: str | None = Field(default=None, pattern="^[a-z]{3}$")
    late: bool = False


class Authentication(BaseModel):
    model_config = ConfigDict(extra="forbid")

    passed: bool = True


class RefundChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: Literal["failed", "requires_action"]


class Redelivery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    events: list[str] | None = None


class Endpoint(BaseModel):
    model_config = ConfigDict(extra="forbid")

    url: str
    secret: str = Field(min_length=1)
    enabled_events: list[str] = ["*"]


@router.get("/healthz")
async def healthz(sandbox: TheSandbox, response: Response) -> dict[str, str]:
    """503 when what is due cannot be done."""
    response.status_code = 503 if sandbox.failing else 200
    return {"status": "failing" if sandbox.failing else "ok"}


@router.get("/_sandbox/clock")
async def read_clock(sandbox: TheSandbox, scope: Scope) -> dict[str, float]:
    return {"now": sandbox.clock.now(scope), "offset_seconds": sandbox.clock.offset(scope)}


@router.post("/_sandbox/clock")
async def move_clock(sandbox: TheSandbox, scope: Scope, body: Advance) -> dict[str, float]:
    sandbox.advance(scope, body.advance_seconds)
    return await read_clock(sandbox, scope)


@router.get("/_sandbox/settings")
async def read_settings(sandbox: TheSandbox, scope: Scope) -> dict[str, float]:
    return settings_of(sandbox.store, scope)


@router.put("/_sandbox/settings")
async def set_settings(sandbox: TheSandbox, scope: Scope, body: dict[str, float]) -> dict[str, float]:
    with sandbox.store.transaction():
        change_settings(sandbox.store, scope, body)
    return settings_of(sandbox.store, scope)


@router.get("/_sandbox/faults")
async def read_faults(sandbox: TheSandbox) -> list[Fault]:
    return sandbox.faults.armed


@router.post("/_sandbox/faults")
async def arm_fault(sandbox: TheSandbox, scope: Scope, body: Fault) -> list[Fault]:
    sandbox.faults.armed.append(body.model_copy(update={"account": scope}))
    return sandbox.faults.armed


@router.delete("/_sandbox/faults", status_code=204)
async def disarm_faults(sandbox: TheSandbox, scope: Scope) -> None:
    sandbox.faults.clear(scope)


@router.get("/_sandbox/webhooks")
async def read_delivery_faults(sandbox: TheSandbox, scope: Scope) -> dict[str, Any]:
    rows = sandbox.store.execute(
        "select status, count(*) from deliveries where ?1 is null or account = ?1 group by 1", scope
    ).fetchall()
    counts = {"pending": 0, "delivered": 0, "failed": 0} | dict(rows)
    faults = sandbox.faults.deliveries.get(scope) or DeliveryFaults()
    return {"faults": faults.model_dump(), "deliveries": counts}


@router.put("/_sandbox/webhooks")
async def set_delivery_faults(sandbox: TheSandbox, scope: Scope, body: DeliveryFaults) -> dict[str, Any]:
    sandbox.faults.deliveries[scope] = body
    return await read_delivery_faults(sandbox, scope)


@router.post("/_sandbox/webhooks/redeliver")
async def redeliver(sandbox: TheSandbox, scope: Scope, body: Redelivery) -> dict[str, int]:
    with sandbox.store.transaction():
        queued = sandbox.deliverer.redeliver(scope, body.events)
    sandbox.wake()
    return {"queued": queued}


@router.get("/_sandbox/deliveries")
async def list_deliveries(sandbox: TheSandbox, scope: Scope, limit: int = 1000) -> list[JSON]:
    rows = sandbox.store.execute(
        "select d.event, o.type, d.endpoint, d.status, d.attempt, d.response, d.forgery, d.due from deliveries d "
        "join objects o on o.id = d.event where ?1 is null or d.account = ?1 order by d.id desc limit ?2",
        scope,
        limit,
    ).fetchall()
    names = ("event", "type", "endpoint", "status", "attempts", "response", "forgery", "due")
    return [dict(zip(names, row, strict=True)) for row in rows]


@router.put("/_sandbox/endpoints")
async def register_endpoint(sandbox: TheSandbox, scope: Scope, body: Endpoint) -> JSON:
    if scope is None:
        raise invalid("An endpoint belongs to an account: send its key.")
    with sandbox.store.transaction():
        return endpoints.register(sandbox.context(scope), body.url, body.secret, body.enabled_events)


def session_context(sandbox: Sandbox, session_id: str) -> tuple[Context, JSON]:
    """A session by its id alone: its id is the secret that lets a customer pay."""
    account = sandbox.store.owner(session_id)
    if account is None:
        raise missing("checkout.session", session_id)
    ctx = sandbox.context(account)
    return ctx, ctx.get("checkout.session", session_id)


@router.post("/_sandbox/checkout/{session_id}/pay")
async def pay(sandbox: TheSandbox, session_id: str, body: Payment) -> JSONResponse:
    with sandbox.store.transaction():
        ctx, session = session_context(sandbox, session_id)
        details = body.model_dump(exclude={"card", "authenticate"})
        outcome = checkout.pay(ctx, session, body.card, **details)
        if outcome == "requires_action" and body.authenticate is not None:
            outcome, _ = checkout.authenticate(ctx, session, passed=body.authenticate)
        reply = _paid(ctx, session, outcome)
    sandbox.wake()
    return JSONResponse(reply, 402 if outcome == "declined" else 200)


@router.post("/_sandbox/checkout/{session_id}/authenticate")
async def authenticate(sandbox: TheSandbox, session_id: str, body: Authentication) -> JSONResponse:
    with sandbox.store.transaction():
        ctx, session = session_context(sandbox, session_id)
        outcome, _ = checkout.authenticate(ctx, session, passed=body.passed)
        reply = _paid(ctx, session, outcome)
    sandbox.wake()
    return JSONResponse(reply, 402 if outcome == "declined" else 200)


@router.post("/_sandbox/checkout/{session_id}/expire")
async def expire(sandbox: TheSandbox, session_id: str) -> JSON:
    """Let this session's time run out, and nothing else's."""
    with sandbox.store.transaction():
        ctx, session = session_context(sandbox, session_id)
        checkout.expire_when_due(ctx, session_id)
        session = ctx.get("checkout.session", session_id)
    sandbox.wake()
    return session


@router.post("/_sandbox/checkout/{session_id}/duplicate")
async def duplicate(sandbox: TheSandbox, session_id: str) -> JSON:
    """Open a second session for the same order, as a lost reply might."""
    with sandbox.store.transaction():
        ctx, session = session_context(sandbox, session_id)
        extra = sandbox.store.private(session_id)
        copy_id = new_id("cs_test", 58)
        url = f"{extra['base_url']}/c/pay/{copy_id}"
        fresh = {"status": "open", "payment_status": "unpaid", "payment_intent": None, "customer_details": None}
        copied = session | fresh | {"id": copy_id, "url": url, "created": ctx.now}
        ctx.store.insert(ctx.account, copied, extra)
        ctx.schedule("expire_session", copy_id, session["expires_at"] - ctx.clock.wall())
    return copied


@router.post("/_sandbox/refunds/{refund_id}")
async def change_refund(sandbox: TheSandbox, refund_id: str, body: RefundChange) -> JSON:
    """Let a refund fail, or wait for the customer."""
    with sandbox.store.transaction():
        ctx = sandbox.context(sandbox.store.owner(refund_id) or "")
        refund = ctx.get("refund", refund_id)
        if refund["status"] not in ("pending", "succeeded", "requires_action"):
            raise refused(f"This refund has a status of {refund['status']}, which is its last.")
        (refunds.fail if body.status == "failed" else refunds.require_action)(ctx, refund)
    sandbox.wake()
    return refund


def _paid(ctx: Context, session: JSON, outcome: str) -> JSON:
    intent = ctx.get("payment_intent", session["payment_intent"])
    return {
        "outcome": outcome,
        "session": session["id"],
        "status": session["status"],
        "payment_status": session["payment_status"],
        "payment_intent": intent["id"],
        "charge": intent["latest_charge"],
        "error": intent["last_payment_error"],
    }


@router.get("/_sandbox/balance_transactions")
async def dump_balance_transactions(sandbox: TheSandbox, scope: Scope) -> list[JSON]:
    """All of them, oldest first."""
    found = sandbox.store.select(scope, "balance_transaction", {}, limit=-1)
    return [sandbox.context(scope or "").present(entry) for entry in reversed(found)]


@router.get("/_sandbox/requests")
async def dump_requests(sandbox: TheSandbox, scope: Scope, path: str = "*", key: str | None = None) -> list[JSON]:
    """Requests that may change something, oldest first; `path` is a glob. Status 0: dropped before it ran."""
    rows = sandbox.store.execute(
        "select method, path, key, status, replayed, fault, at from requests "
        "where (?1 is null or account = ?1) and path glob ?2 and (?3 is null or key = ?3) order by seq",
        scope,
        path,
        key,
    ).fetchall()
    names = ("method", "path", "key", "status", "replayed", "fault", "at")
    return [dict(zip(names, row, strict=True)) | {"replayed": bool(row[4])} for row in rows]


async def stripe_error(_: Request, error: StripeError) -> JSONResponse:
    """Stripe's error shape for the control plane and the page."""
    return JSONResponse(error.body, error.status)
