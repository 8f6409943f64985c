"""Stripe's side of a webhook: events, signed."""

import json
import time
from typing import Any

import httpx2
import stripe

from core.ids import new_id
from core.settings import Settings


def event_of(type: str = "checkout.session.completed", **object_fields: Any) -> dict[str, Any]:
    """An event about an object with these fields."""
    return {
        "id": f"evt_{new_id().hex}",
        "object": "event",
        "type": type,
        "created": int(time.time()),
        "data": {"object": {"id": f"cs_test_{new_id().hex}", "object": "checkout.session"} | object_fields},
    }


def signature(body: str, secret: str, *, age: int = 0) -> str:
    """The header of a body that was signed `age` seconds ago."""
    return str(stripe.WebhookSignature.generate_signature_header(body, secret, int(time.time()) - age))


async def post(client: httpx2.AsyncClient, body: str | bytes, header: str | None) -> httpx2.Response:
    headers = {"Content-Type": "application/json"} | ({} if header is None else {"Stripe-Signature": header})
    return await client.post("/webhooks/stripe", content=body, headers=headers)


async def post_event(client: httpx2.AsyncClient, settings: Settings, event: dict[str, Any]) -> httpx2.Response:
    """Delivers the event as Stripe does."""
    body = json.dumps(event)
    return await post(client, body, signature(body, settings.stripe.webhook_secrets.get_secret_value()))
