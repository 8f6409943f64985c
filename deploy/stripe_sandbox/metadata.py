"""Stripe's rules for `metadata`."""

from typing import Any

from deploy.stripe_sandbox.errors import invalid

_MAX_KEYS, _MAX_KEY, _MAX_VALUE = 50, 40, 500


def merged(current: dict[str, str] | None, given: Any) -> dict[str, str]:
    """Metadata after an update: an empty value removes its key, an empty string removes all."""
    if given == "":
        return {}
    result = dict(current or {})
    for key, value in (given or {}).items():
        if len(key) > _MAX_KEY or "[" in key or "]" in key:
            raise invalid(f"Metadata keys can have up to {_MAX_KEY} characters. Invalid key: {key}", param="metadata")
        if len(value) > _MAX_VALUE:
            raise invalid(
                f"Metadata values can have up to {_MAX_VALUE} characters, but you passed in a value that is "
                f"{len(value)} characters.",
                param=f"metadata[{key}]",
            )
        if value:
            result[key] = value
        else:
            result.pop(key, None)
    if len(result) > _MAX_KEYS:
        raise invalid(f"Metadata can have up to {_MAX_KEYS} keys.", param="metadata")
    return result
