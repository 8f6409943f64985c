"""Which process a Stripe webhook concerns. Its payload is never believed beyond that (docs/faults.md)."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

_SESSION = "checkout.session."
_ORDER = (
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.processing",
    "charge.succeeded",
    "charge.updated",
)
_REFUND = frozenset({"refund.created", "refund.updated", "refund.failed"})


def concerns(type: str, object: Mapping[str, Any]) -> tuple[str, UUID] | None:
    """The kind and subject of the process to poke, or None for events nobody waits for."""
    metadata = object.get("metadata") or {}
    if type.startswith(_SESSION):
        return _subject("order", object.get("client_reference_id"))
    if type in _ORDER:
        return _subject("order", metadata.get("order_id"))
    if type in _REFUND:
        return _subject("refund", metadata.get("refund_id"))
    return None


def _subject(kind: str, value: object) -> tuple[str, UUID] | None:
    try:
        return kind, UUID(str(value))
    except ValueError:
        return None
