"""Stripe's rules for `metadata`."""

from deploy.stripe_sandbox.errors import invalid
from deploy.stripe_sandbox.schema import JSON

_MAX_KEYS, _MAX_KEY, _MAX_VALUE = 50, 40, 500


def merged(current: dict[str, str], params: JSON) -> dict[str, str]:
    """Metadata after a request: an empty value removes its key, None for a value removes all."""
    given = params.get("metadata", {})
    if given is None:
        return {}
    result = dict(current)
    for key, value in given.items():
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
