"""Refusals in Stripe's own error shape."""

from typing import Any


class StripeError(Exception):
    """An error reply. `stored` says whether an idempotency key remembers it, `commit` whether its effects stay."""

    def __init__(
        self, status: int, kind: str, message: str, *, stored: bool = True, commit: bool = False, **fields: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.stored = stored
        self.commit = commit
        self.body: dict[str, Any] = {"error": {"message": message, "type": kind, **fields}}


def _present(code: str | None, param: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("code", code), ("param", param)) if value is not None}


def invalid(message: str, *, code: str | None = None, param: str | None = None) -> StripeError:
    """A request whose parameters fail validation: nothing ran, so no idempotency key remembers it."""
    return StripeError(400, "invalid_request_error", message, stored=False, **_present(code, param))


def refused(message: str, *, code: str | None = None, param: str | None = None, status: int = 400) -> StripeError:
    """A well-formed request that the state of the account does not allow; an idempotency key remembers it."""
    return StripeError(status, "invalid_request_error", message, **_present(code, param))


def missing(noun: str, object_id: str, param: str = "id") -> StripeError:
    return refused(f"No such {noun}: '{object_id}'", code="resource_missing", param=param, status=404)


def unauthenticated(message: str) -> StripeError:
    return StripeError(401, "invalid_request_error", message, stored=False)


def in_progress() -> StripeError:
    return StripeError(
        409,
        "idempotency_error",
        "There is currently another in-progress request using this Idempotency Key (that probably means you submitted "
        "twice, and the other request is still going through). Try again later.",
        stored=False,
        code="idempotency_key_in_use",
    )


def idempotency_mismatch(message: str) -> StripeError:
    return StripeError(400, "idempotency_error", message, stored=False)


def rate_limited() -> StripeError:
    return StripeError(
        429,
        "invalid_request_error",
        "Request rate limit exceeded. You can learn more about rate limits here https://stripe.com/docs/rate-limits.",
        stored=False,
        code="rate_limit",
    )


def broken() -> StripeError:
    return StripeError(500, "api_error", "An unknown error occurred", stored=False)
