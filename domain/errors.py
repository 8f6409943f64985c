"""Business refusals. The class name is the error type in Temporal and the `code` of the API's problem+json."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Kind(StrEnum):
    """What sort of refusal it is; the API maps it to an HTTP status."""

    INVALID = "invalid"  # 422
    UNAUTHENTICATED = "unauthenticated"  # 401
    FORBIDDEN = "forbidden"  # 403
    NOT_FOUND = "not_found"  # 404
    CONFLICT = "conflict"  # 409
    PRECONDITION_FAILED = "precondition_failed"  # 412
    TOO_LARGE = "too_large"  # 413
    TOO_MANY = "too_many"  # 429
    UNAVAILABLE = "unavailable"  # 503


@dataclass(frozen=True, slots=True)
class FieldError:
    """`field` is a dotted path into the request, e.g. `items.0.course_id`."""

    field: str
    message: str
    code: str = "invalid"


class DomainError(Exception):
    """A refusal that changes nothing. `retry_after` is seconds."""

    kind: ClassVar[Kind] = Kind.CONFLICT
    title: ClassVar[str] = "The request was refused"

    def __init__(self, detail: str, *, errors: Sequence[FieldError] = (), retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after

    @property
    def code(self) -> str:
        return type(self).__name__


class NotFound(DomainError):
    kind = Kind.NOT_FOUND
    title = "Not found"


class Forbidden(DomainError):
    kind = Kind.FORBIDDEN
    title = "Not allowed"


class Invalid(DomainError):
    kind = Kind.INVALID
    title = "The request is invalid"


class InvalidCursor(Invalid):
    """What continues a list is no key of its rows."""

    title = "The cursor is not valid"


class Conflict(DomainError):
    kind = Kind.CONFLICT
    title = "The request conflicts with the current state"


class ServiceUnavailable(DomainError):
    """A backing service does not answer; trying again later may work."""

    kind = Kind.UNAVAILABLE
    title = "A backing service is not available"
