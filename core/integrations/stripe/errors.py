"""What a call to Stripe may end in, decided here and nowhere else: not now, never, or our own mistake."""

from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import stripe

_BUSY = frozenset({"rate_limit", "lock_timeout"})
_OUR_MISTAKES = ("parameter_", "url_invalid", "api_key_", "testmode_charges_only", "livemode_mismatch")


class StripeTransient(Exception):
    """Stripe did not say yes or no; the same call with the same key may be repeated after `retry_after` seconds.

    `remembered` means that Stripe keeps this failure under the key for a day: look the object up, then take a new key.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, remembered: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.remembered = remembered


class StripeRefused(Exception):
    """Stripe said no for good. `code` is its error code, empty when it gave none."""

    def __init__(self, code: str, message: str, http_status: int) -> None:
        super().__init__(f"{code or http_status}: {message}")
        self.code = code
        self.message = message
        self.http_status = http_status


class StripeMisuse(Exception):
    """Our key, rights or parameters are wrong: a person has to look."""


@contextmanager
def classified() -> Iterator[None]:
    """Turn whatever the client raises into one of our three errors."""
    try:
        yield
    except (stripe.IdempotencyError, stripe.AuthenticationError, stripe.PermissionError) as error:
        raise StripeMisuse(str(error)) from error
    except (stripe.CardError, stripe.InvalidRequestError) as error:
        code = _code(error)
        if code in _BUSY:
            raise StripeTransient(str(error), retry_after=_retry_after(error)) from error
        if code.startswith(_OUR_MISTAKES):
            raise StripeMisuse(str(error)) from error
        raise StripeRefused(code, error.user_message or str(error), error.http_status or 400) from error
    except stripe.StripeError as error:  # no answer, 409, 429, 5xx, or an answer that is no JSON
        remembered = "idempotent-replayed" in {name.lower() for name in error.headers or {}}
        raise StripeTransient(str(error), retry_after=_retry_after(error), remembered=remembered) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # The client reads the body outside its own error handling, so a connection cut there arrives raw.
        raise StripeTransient(f"no answer from Stripe: {type(error).__name__}") from error


def _code(error: stripe.StripeError) -> str:
    return str((error.error.to_dict().get("code") if error.error else None) or error.code or "")


def _retry_after(error: stripe.StripeError) -> float | None:
    for name, value in (error.headers or {}).items():
        if name.lower() == "retry-after" and value.replace(".", "", 1).isdigit():
            return float(value)
    return None
