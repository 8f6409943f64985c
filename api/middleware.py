"""Pure ASGI middleware: request ids, access log, metrics, security headers, limits, and the last resort."""

import asyncio
import re
import time
from collections.abc import Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem, unavailable
from core import logs
from core.ids import new_id
from core.settings import APISettings

log = logs.get_logger(__name__)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_MAX_RUNNING = 1000
"""Requests at once; beyond it they are refused: waiting costs memory and ends in timeouts anyway."""

REQUESTS = Counter("lyceum_http_requests_total", "Requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("lyceum_http_request_seconds", "Time to the end of the answer", ["method", "route"])
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}


def stack(settings: APISettings) -> list[Middleware]:
    """The middleware, outermost first."""
    cross_origin = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "If-Match",
            "If-None-Match",
            "X-Request-ID",
        ],
        expose_headers=["ETag", "Location", "Retry-After", "X-Request-ID"],
        max_age=600,
    )
    return [
        Middleware(RequestContext, secure=settings.public_url.startswith("https://")),
        *([cross_origin] if settings.origins else []),
        Middleware(
            Guard,
            max_body=settings.max_body,
            max_header=settings.max_header,
            timeout=settings.request_timeout,
            max_running=_MAX_RUNNING,
        ),
    ]


class RequestContext:
    """Gives a request its id, logs and counts its answer, and adds the headers every answer carries."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = dict(_SECURITY_HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=63072000; includeSubDomains"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started, ended = time.perf_counter(), 0.0
        status = 499  # what stays when the client goes before the answer

        async def send_with_headers(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)
            if _is_last(message):
                ended = time.perf_counter()

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            _record(scope, status, (ended or time.perf_counter()) - started)


def _is_last(message: Message) -> bool:
    """Whether it ends the answer. What runs after that, such as background tasks, the client does not wait for."""
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(given):
                return str(given)
    return str(new_id())


def _record(scope: Scope, status: int, seconds: float) -> None:
    if scope["path"] in _QUIET_PATHS:
        return
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = _route(scope)
    REQUESTS.labels(method, route, str(status)).inc()
    REQUEST_SECONDS.labels(method, route).observe(seconds)
    log.info("request", method=method, path=scope["path"], status=status, duration_ms=round(seconds * 1000, 1))


def _route(scope: MutableMapping[str, Any]) -> str:
    """The path template, so that ids do not make a time series each."""
    context = scope.get("fastapi", {}).get("effective_route_context") or scope.get("route")
    return getattr(context, "path", "unmatched")


class Guard:
    """Limits what one request may cost and how many may run, and answers 500 when nothing else has answered."""

    def __init__(self, app: ASGIApp, *, max_body: int, max_header: int, timeout: float, max_running: int) -> None:
        self._app = app
        self._max_body = max_body
        self._max_header = max_header
        self._timeout = timeout
        self._max_running = max_running
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refuse(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._running += 1
        started = False
        deadline = asyncio.timeout(self._timeout)

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)
            if _is_last(message) and not deadline.expired():
                deadline.reschedule(None)

        try:
            async with deadline:
                await self._app(scope, self._limited(receive), watched_send)
        except Exception as error:
            # Where an answer has begun, raising is what makes the server cut it off instead of ending it as complete.
            if started:
                raise
            if deadline.expired():
                log.warning("request timed out", path=scope["path"], seconds=self._timeout)
                response = unavailable(scope, "The request took too long and was given up.")
            else:
                log.exception("request failed", path=scope["path"], error=type(error).__name__)
                response = problem(scope, 500, "InternalError", "Something went wrong on our side")
            await response(scope, receive, send)
        finally:
            self._running -= 1

    def _refuse(self, scope: Scope) -> ASGIApp | None:
        if self._running >= self._max_running and scope["path"] not in _QUIET_PATHS:
            return unavailable(scope, "There are too many requests at once. Try again shortly.")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._max_header:
            detail = f"All headers together may take {self._max_header} bytes."
            return problem(scope, 431, "HeadersTooLarge", "Request Header Fields Too Large", detail)
        declared = _content_length(scope["headers"])
        if declared is not None and declared > self._max_body:
            return problem(scope, 413, "BodyTooLarge", HTTPStatus(413).phrase, self._too_large())
        return None

    def _limited(self, receive: Receive) -> Receive:
        """Counts what arrives: a chunked body declares no length."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_body:
                    raise HTTPException(413, self._too_large())
            return message

        return limited

    def _too_large(self) -> str:
        return f"A body may take {self._max_body} bytes."


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
