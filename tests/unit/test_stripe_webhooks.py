"""Which webhooks the product believes."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import stripe

from core.integrations.stripe import BadSignature, StripeGateway, parse_webhook
from core.settings import StripeSettings

ORDER = UUID("0190f3c2-0000-7000-8000-000000000001")


def _event(**data: Any) -> bytes:
    event = {"id": "evt_1", "type": "charge.updated", "created": 1_700_000_000, "object": "event"}
    return json.dumps({**event, "data": {"object": {"id": "ch_1", **data}}}).encode()


def _signed(payload: bytes, secret: str, age: int = 0) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(payload.decode(), secret, int(time.time()) - age))


def test_a_signed_event_is_read() -> None:
    payload = _event(metadata={"order_id": str(ORDER)})
    event = parse_webhook(payload, _signed(payload, "whsec_a"), ["whsec_a"])
    assert (event.id, event.type, event.object_id, event.account) == ("evt_1", "charge.updated", "ch_1", None)
    assert event.created == datetime.fromtimestamp(1_700_000_000, UTC)
    assert event.data["metadata"] == {"order_id": str(ORDER)}


def test_either_secret_of_a_rotation_is_good() -> None:
    payload = _event()
    for secret in ("whsec_old", "whsec_new"):
        assert parse_webhook(payload, _signed(payload, secret), ["whsec_new", "whsec_old"]).id == "evt_1"


@pytest.mark.parametrize(
    ("secret", "age", "secrets"),
    [
        ("whsec_b", 0, ["whsec_a"]),
        ("whsec_a", 301, ["whsec_a"]),
        ("whsec_a", 0, []),
        ("whsec_a", 0, [""]),
    ],
)
def test_another_secret_an_old_signature_and_no_secret_are_refused(secret: str, age: int, secrets: list[str]) -> None:
    with pytest.raises(BadSignature):
        parse_webhook(_event(), _signed(_event(), secret, age=age), secrets)


@pytest.mark.parametrize("header", ["", "nonsense", "t=x,v1=y"])
def test_anything_else_is_a_bad_signature(header: str) -> None:
    with pytest.raises(BadSignature):
        parse_webhook(_event(), header, ["whsec_a"])


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"data":{"object":null}}', b"\xff", b"not json"])
def test_a_signed_body_that_is_no_event_is_refused(payload: bytes) -> None:
    header = _signed(payload, "whsec_a") if payload != b"\xff" else "t=1,v1=00"
    with pytest.raises(BadSignature):
        parse_webhook(payload, header, ["whsec_a"])


async def test_without_an_override_the_real_stripe_is_called() -> None:
    gateway = StripeGateway(StripeSettings())
    assert gateway._settings.api_base == ""
    await gateway.aclose()
