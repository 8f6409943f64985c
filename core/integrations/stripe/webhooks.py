"""Webhooks: a body is trusted only when one of our secrets signed it a moment ago."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe

from core.integrations.stripe.states import instant_of

_TOLERANCE = 300


class BadSignature(Exception):
    """A webhook that none of our secrets signed recently."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """`object_id` and `data` are the object the event is about, as it was then; `account` a connected account."""

    id: str
    type: str
    created: datetime
    object_id: str
    account: str | None
    data: dict[str, Any]


def parse_webhook(payload: bytes, header: str, secrets: Sequence[str]) -> WebhookEvent:
    """The event in a webhook's raw body. Raises BadSignature unless one of `secrets` signed it within 5 minutes."""
    try:
        text = payload.decode()
        if not any(_signed(text, header, secret) for secret in secrets if secret):
            raise BadSignature("no secret of ours signed this")
        event = json.loads(text)
        data = event["data"]["object"]
        return WebhookEvent(
            id=event["id"],
            type=event["type"],
            created=instant_of(event["created"]),
            object_id=data.get("id") or "",
            account=event.get("account"),
            data=data,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadSignature("not an event of Stripe's") from error


def _signed(text: str, header: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(text, header, secret, _TOLERANCE))
    except stripe.SignatureVerificationError:
        return False
