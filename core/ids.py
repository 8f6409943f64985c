"""Identifiers: UUIDv7 keys (time ordered) and deterministic ids derived from business keys."""

from uuid import UUID, uuid5

from uuid_utils.compat import uuid7

_NAMESPACE = UUID("6f1d9c1e-3f6b-5c55-9a57-6c7963657571")


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()


def derived_id(*parts: object) -> UUID:
    """The same UUID for the same parts, so that doing a thing twice names it once."""
    return uuid5(_NAMESPACE, "|".join(str(part) for part in parts))
