"""The `/v1` API: authentication, faults, validation, idempotency, and one transaction around each handler."""

import asyncio
import base64
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from deploy.stripe_sandbox import errors, schema
from deploy.stripe_sandbox.context import expand, new_id
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.faults import Fault, Mode
from deploy.stripe_sandbox.idempotency import MAX_KEY, Remembered
from deploy.stripe_sandbox.params import compile_params, decode
from deploy.stripe_sandbox.registry import HANDLERS
from deploy.stripe_sandbox.sandbox import Sandbox, account_of
from deploy.stripe_sandbox.schema import JSON

_log = logging.getLogger(__name__)
_FAULTS = {"429": errors.rate_limited, "409": errors.in_progress, "500_unstored": errors.broken}


class Severed(Response):
    """No reply at all: the connection is torn down."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = getattr(getattr(receive, "__self__", None), "transport", None)
        if transport is None:
            raise ConnectionResetError("connection severed on purpose")
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            continue


@dataclass(slots=True)
class Call:
    """One request on its way through."""

    request: Request
    path: str
    ids: dict[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: new_id("req", 14))
    account: str = ""
    key: str | None = None
    fault: Fault | None = None

    @property
    def mode(self) -> str | None:
        return self.fault.mode if self.fault else None


class Operation:
    """One operation of the API."""

    def __init__(self, sandbox: Sandbox, method: str, template: str) -> None:
        self._sandbox = sandbox
        self._method = method
        self._handler, takes = HANDLERS[method, template]
        self._check = compile_params(method, template, takes)

    async def __call__(self, request: Request, ids: dict[str, str]) -> Response:
        call = Call(request, request.scope["path"], ids)
        try:
            call.account = _authenticate(request)
            call.fault = self._sandbox.faults.take(call.account, self._method, call.path)
            if call.mode == "drop_before":
                self._log_request(call, 0)
                return Severed()
            if raised := _FAULTS.get(call.mode or ""):
                call.key = request.headers.get("idempotency-key")
                raise raised()
            response = await self._answer(call)
        except StripeError as error:
            self._log_request(call, error.status)
            response = _respond(call, error.status, orjson.dumps(error.body))
        await _stall(call, "latency_after")
        return Severed() if call.mode == "drop_after_commit" else response

    async def _answer(self, call: Call) -> Response:
        given = decode(await call.request.body() if self._method == "POST" else call.request.scope["query_string"])
        params = self._check(given, "")
        if self._method == "GET":
            await _stall(call)
            return _respond(call, *self._try(call, params))
        call.key = call.request.headers.get("idempotency-key")
        if not call.key:
            await _stall(call)
            return self._execute(call, params, given)
        if len(call.key) > MAX_KEY:
            raise errors.invalid(f"Idempotency keys can have up to {MAX_KEY} characters.")
        keys = self._sandbox.keys
        if remembered := keys.recall(call.account, call.key, call.path, given):
            await _stall(call)
            self._log_request(call, remembered.status, replayed=True)
            extra = {"Idempotent-Replayed": "true", "Original-Request": remembered.request}
            return _respond(call, remembered.status, remembered.body, extra)
        keys.begin(call.account, call.key)
        try:
            await _stall(call)
            return self._execute(call, params, given)
        finally:
            keys.end(call.account, call.key)

    def _execute(self, call: Call, params: JSON, given: JSON) -> Response:
        """Run the handler; its effects, the reply its key remembers and the request log are one transaction."""
        try:
            with self._sandbox.store.transaction():
                status, body = self._try(call, params)
                self._remember(call, given, status, body)
        except StripeError as error:
            if not error.stored:
                raise
            status, body = error.status, orjson.dumps(error.body)
            with self._sandbox.store.transaction():
                self._remember(call, given, status, body)
        self._sandbox.wake()
        return _respond(call, status, body)

    def _try(self, call: Call, params: JSON) -> tuple[int, bytes]:
        """Status and body of a reply whose effects stay; raises when nothing shall stay."""
        broken = StripeError(500, "api_error", "An unknown error occurred")
        if call.fault and call.mode == "500_stored" and not call.fault.executed:
            raise broken
        try:
            body = self._run(call, params)
        except StripeError as error:
            if not error.commit:
                raise
            return error.status, orjson.dumps(error.body)
        return (500, orjson.dumps(broken.body)) if call.mode == "500_stored" else (200, body)

    def _run(self, call: Call, params: JSON) -> bytes:
        base_url = f"http://{call.request.headers.get('host', '127.0.0.1')}"
        ctx = self._sandbox.context(call.account, base_url=base_url, request_id=call.id, key=call.key)
        result = self._handler(ctx, params, **call.ids)
        expand(ctx, result, params.get("expand", []))
        return orjson.dumps(result)

    def _remember(self, call: Call, given: JSON, status: int, body: bytes) -> None:
        if call.key:
            reply = Remembered(status, body, call.id)
            self._sandbox.keys.remember(call.account, call.key, call.path, given, reply)
        self._log_request(call, status)

    def _log_request(self, call: Call, status: int, *, replayed: bool = False) -> None:
        if self._method == "GET":
            return
        key = call.key or call.request.headers.get("idempotency-key")
        self._sandbox.store.execute(
            "insert into requests (account, at, method, path, key, status, replayed, fault) "
            "values (?, ?, ?, ?, ?, ?, ?, ?)",
            call.account,
            self._sandbox.clock.now(call.account),
            self._method,
            call.path,
            key,
            status,
            replayed,
            call.mode,
        )


class API:
    """The ASGI application behind `/v1`: finds the operation of a path faster than a list of patterns would."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._fixed: dict[tuple[str, str], Operation] = {}
        self._templates: dict[tuple[str, str, int], list[tuple[list[str], Operation]]] = {}
        for method, template in HANDLERS:
            operation = Operation(sandbox, method, template)
            if "{" not in template:
                self._fixed[method, template] = operation
            else:
                parts = template.split("/")
                self._templates.setdefault((method, parts[2], len(parts)), []).append((parts, operation))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        operation, ids = self._find(scope["method"], scope["path"])
        response = await operation(request, ids) if operation else _unknown(request)
        await response(scope, receive, send)

    def _find(self, method: str, path: str) -> tuple[Operation | None, dict[str, str]]:
        if operation := self._fixed.get((method, path)):
            return operation, {}
        parts = path.split("/")
        for template, operation in self._templates.get((method, parts[2], len(parts)), ()):
            pairs = list(zip(template, parts, strict=True))
            if all(name == part or name.startswith("{") for name, part in pairs):
                return operation, {name[1:-1]: part for name, part in pairs if name.startswith("{")}
        return None, {}


def _unknown(request: Request) -> Response:
    """Stripe's answer to a path it does not know, after it knows who asks."""
    call = Call(request, request.scope["path"])
    try:
        call.account = _authenticate(request)
        message = f"Unrecognized request URL ({request.method}: {call.path})."
        raise StripeError(404, "invalid_request_error", message, stored=False)
    except StripeError as error:
        return _respond(call, error.status, orjson.dumps(error.body))


async def _stall(call: Call, mode: Mode = "latency") -> None:
    if call.fault and call.fault.mode == mode:
        await asyncio.sleep(call.fault.latency_seconds)


def _authenticate(request: Request) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):
            credentials = base64.b64decode(credentials + "==").decode(errors="replace").partition(":")[0]
    if not credentials:
        raise errors.unauthenticated(
            "You did not provide an API key. You need to provide your API key in the Authorization header, using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
    if not credentials.startswith(("sk_test_", "rk_test_")):
        shown = f"{credentials[:7]}{'*' * max(0, len(credentials) - 11)}{credentials[-4:]}"
        raise errors.unauthenticated(f"Invalid API Key provided: {shown}")
    if "stripe-account" in request.headers:
        raise errors.invalid("The sandbox does not support connected accounts.", param="Stripe-Account")
    return account_of(credentials)


def _respond(call: Call, status: int, body: bytes, extra: dict[str, Any] | None = None) -> Response:
    headers = {"Request-Id": call.id, "Stripe-Version": schema.api_version()} | (extra or {})
    if call.key:
        headers["Idempotency-Key"] = call.key
        headers.setdefault("Original-Request", call.id)
    return Response(body, status, headers, "application/json")
