"""RFC 9457 problem documents: one shape for every refusal, with a stable `code` that clients may match on."""

import errno
import socket
from collections.abc import Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.routes import Methods
from core import logs
from core.db import is_away
from domain.errors import DomainError, FieldError, Kind, ServiceUnavailable

log = logs.get_logger(__name__)

STATUS: Mapping[Kind, int] = {
    Kind.INVALID: 422,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.PRECONDITION_FAILED: 412,
    Kind.TOO_LARGE: 413,
    Kind.TOO_MANY: 429,
    Kind.UNAVAILABLE: 503,
}

RETRY_AFTER = 5
"""Seconds a client is asked to wait when a backing service does not answer."""

_CODES = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 413: "BodyTooLarge", 431: "HeadersTooLarge"}

_OUTAGES = (PoolTimeout, DBAPIError, OSError)
"""What reaches a route unwrapped: clients of the other services raise `ServiceUnavailable` themselves."""

_UNSTORABLE_SQLSTATES = frozenset({"22000", "22003", "22021", "22P05"})
"""Numbers out of range and text that PostgreSQL cannot hold, such as NUL: what only the client can have sent."""

_MESSAGES = {"string_pattern_mismatch": "Does not have the expected form"}

_NETWORK_ERRNOS = frozenset(
    {errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE}
)


class ProblemField(BaseModel):
    field: str = Field(description="Dotted path into the request, e.g. `items.0.course_id`; empty for the whole.")
    message: str
    code: str


class Problem(BaseModel):
    """What every refusal looks like (RFC 9457, `application/problem+json`)."""

    type: str = Field(examples=["urn:lyceum:problem:NotFound"])
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; match on this.")
    instance: str = Field(description="The path of the request.")
    errors: list[ProblemField]
    request_id: str


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


def problem(
    scope: Mapping[str, Any],
    status: int,
    code: str,
    title: str,
    detail: str = "",
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> ProblemResponse:
    """The response for one refusal of the request in `scope`."""
    body = Problem(
        type=f"urn:lyceum:problem:{code}",
        title=title,
        status=status,
        detail=detail or title,
        code=code,
        instance=scope["path"],
        errors=[ProblemField(field=e.field, message=e.message, code=e.code) for e in errors],
        request_id=scope.get("state", {}).get("request_id", ""),
    )
    return ProblemResponse(body.model_dump(), status_code=status, headers=dict(headers or {}))


def unavailable(scope: Mapping[str, Any], detail: str, *, retry_after: int = RETRY_AFTER) -> ProblemResponse:
    """503 with `Retry-After`."""
    return problem(
        scope,
        503,
        ServiceUnavailable.__name__,
        ServiceUnavailable.title,
        detail,
        headers={"Retry-After": str(retry_after)},
    )


def outage(error: BaseException) -> str | None:
    """The name of the backing service whose absence `error` is, or None when it is something else."""
    if is_away(error):
        return "database"
    if isinstance(error, TimeoutError | ConnectionError | socket.gaierror):
        return "backing service"
    if isinstance(error, OSError):
        # Connecting to a name with several addresses ends in one OSError without an errno.
        several = error.errno is None and "Multiple exceptions" in str(error)
        return "backing service" if several or error.errno in _NETWORK_ERRNOS else None
    return None


async def _on_domain_error(request: Request, exc: Exception) -> ProblemResponse:
    error = cast(DomainError, exc)
    headers: dict[str, str] = {}
    retry_after = error.retry_after
    if retry_after is None and error.kind is Kind.UNAVAILABLE:
        retry_after = RETRY_AFTER
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if error.kind is Kind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.kind in (Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.TOO_MANY):
        log.info("request denied", code=error.code, path=request.scope["path"], method=request.method)
    return problem(
        request.scope,
        STATUS[error.kind],
        error.code,
        error.title,
        error.detail,
        errors=error.errors,
        headers=headers,
    )


async def _on_invalid_request(request: Request, exc: Exception) -> ProblemResponse:
    found = cast(RequestValidationError, exc).errors()
    if any(error["type"] == "json_invalid" for error in found):
        return problem(request.scope, 400, "MalformedJSON", "The body is not valid JSON")
    fields = [
        FieldError(
            ".".join(str(part) for part in error["loc"][1:]),
            _MESSAGES.get(error["type"], error["msg"]),
            error["type"],
        )
        for error in found
    ]
    return problem(
        request.scope, 422, "ValidationFailed", "The request is invalid", "See `errors`, field by field.", errors=fields
    )


async def _on_http_exception(request: Request, exc: Exception) -> ProblemResponse:
    error = cast(HTTPException, exc)
    phrase = HTTPStatus(error.status_code).phrase
    code = _CODES.get(error.status_code, phrase.replace(" ", ""))
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request.app).of(request.scope["path"]))
    return problem(request.scope, error.status_code, code, phrase, str(error.detail), headers=headers)


@lru_cache(maxsize=1)
def _methods(app: FastAPI) -> Methods:
    return Methods(app)


async def _on_outage(request: Request, exc: Exception) -> ProblemResponse:
    service = outage(exc)
    if service is None:
        if isinstance(exc, DBAPIError) and getattr(exc.orig, "sqlstate", None) in _UNSTORABLE_SQLSTATES:
            return problem(request.scope, 422, "InvalidValue", "The request holds a value that cannot be stored")
        raise exc
    log.warning("backing service unavailable", service=service, error=type(exc).__name__, path=request.scope["path"])
    return unavailable(request.scope, f"The {service} does not answer at the moment. Try again shortly.")


def install(app: FastAPI) -> None:
    """Registers the handlers; what none of them takes ends as a 500 in `api.middleware`."""
    app.add_exception_handler(DomainError, _on_domain_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for kind in _OUTAGES:
        app.add_exception_handler(kind, _on_outage)
