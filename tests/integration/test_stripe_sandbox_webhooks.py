"""Deliveries: signed, retried, doubled, dropped, forged, sent again."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import stripe

from tests.integration.stripe_sandbox import Receiver, Served, component_validator, receiver, serve
from tests.support.wait import until

SECRET = "whsec_known"
PAYMENT = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Served]:
    async with serve() as served:
        await served.control("PUT", "/settings", {"balance_transaction_delay": 3600})
        yield served


@pytest.fixture
async def hook(sandbox: Served) -> AsyncIterator[Receiver]:
    async with receiver() as found:
        await sandbox.control("PUT", "/endpoints", {"url": found.url, "secret": SECRET})
        yield found


async def _settled(sandbox: Served, hook: Receiver, count: int) -> list[str]:
    """Types of what arrived once nothing more is to be delivered."""
    await hook.wait_for(count)

    async def nothing_pending() -> bool:
        return not (await sandbox.control("GET", "/webhooks"))["deliveries"]["pending"]

    await until(nothing_pending)
    return [body["type"] for body in hook.bodies()]


async def test_events_are_signed_and_their_objects_are_the_apis(sandbox: Served, hook: Receiver) -> None:
    await sandbox.paid()
    await hook.wait_for(4)
    for body, header in hook.got:
        event = stripe.Webhook.construct_event(body, header, SECRET)
        raw = event.to_dict()
        component_validator("event").validate(raw)
        component_validator(raw["data"]["object"]["object"]).validate(raw["data"]["object"])
    assert [body["type"] for body in hook.bodies()] == PAYMENT


async def test_an_endpoint_gets_only_what_it_asked_for(sandbox: Served) -> None:
    async with receiver() as hook:
        made = await sandbox.client.v1.webhook_endpoints.create_async(
            {"url": hook.url, "enabled_events": ["checkout.session.completed"]}
        )
        await sandbox.paid()
        assert await _settled(sandbox, hook, 1) == ["checkout.session.completed"]
        body, header = hook.got[0]
        assert stripe.Webhook.construct_event(body, header, made.secret).type == "checkout.session.completed"


async def test_a_refused_delivery_is_tried_again(sandbox: Served, hook: Receiver) -> None:
    hook.status = 500
    await sandbox.paid()
    await hook.wait_for(4)
    pending = await sandbox.client.v1.events.list_async({"delivery_success": False})
    assert Counter(event.pending_webhooks for event in pending.data) == {1: 4}
    hook.status = 200
    await sandbox.control("POST", "/clock", {"advance_seconds": 60})
    await _settled(sandbox, hook, 8)
    assert Counter(body["type"] for body in hook.bodies()) == dict.fromkeys(PAYMENT, 2)
    assert (await sandbox.client.v1.events.list_async({"delivery_success": False})).data == []


async def test_deliveries_can_be_doubled_and_shuffled(sandbox: Served, hook: Receiver) -> None:
    await sandbox.control("PUT", "/webhooks", {"duplicate": 2, "reorder": True})
    await sandbox.paid()
    assert Counter(await _settled(sandbox, hook, 12)) == dict.fromkeys(PAYMENT, 3)


async def test_a_delayed_delivery_comes_when_its_time_has_come(sandbox: Served, hook: Receiver) -> None:
    await sandbox.control("PUT", "/webhooks", {"delay_seconds": 3600})
    await sandbox.paid()
    assert (await sandbox.control("GET", "/webhooks"))["deliveries"]["pending"] == 4
    assert hook.got == []
    await sandbox.control("POST", "/clock", {"advance_seconds": 3600})
    await hook.wait_for(4)


@pytest.mark.parametrize(("drop", "arriving"), [(True, []), (3, PAYMENT[3:])])
async def test_dropped_events_can_be_sent_again(
    sandbox: Served, hook: Receiver, drop: bool | int, arriving: list[str]
) -> None:
    await sandbox.control("PUT", "/webhooks", {"drop": drop})
    await sandbox.paid()
    assert await _settled(sandbox, hook, len(arriving)) == arriving
    assert (await sandbox.control("POST", "/webhooks/redeliver", {}))["queued"] == 4
    assert await _settled(sandbox, hook, len(arriving) + 4) == arriving + PAYMENT


async def test_one_event_can_be_sent_again_by_its_id(sandbox: Served, hook: Receiver) -> None:
    await sandbox.paid()
    first = (await hook.wait_for(4))[0]
    assert await sandbox.control("POST", "/webhooks/redeliver", {"events": [first["id"]]}) == {"queued": 1}
    assert (await hook.wait_for(5))[4] == first


@pytest.mark.parametrize("forgery", ["bad_signature", "old_timestamp"])
async def test_forged_deliveries_do_not_verify_and_are_not_repeated(
    sandbox: Served, hook: Receiver, forgery: str
) -> None:
    hook.status = 400
    await sandbox.control("PUT", "/webhooks", {forgery: True})
    await sandbox.paid()
    await _settled(sandbox, hook, 4)
    for body, header in hook.got:
        with pytest.raises(stripe.SignatureVerificationError):
            stripe.Webhook.construct_event(body, header, SECRET)
    deliveries: list[dict[str, Any]] = await sandbox.control("GET", "/deliveries")
    assert Counter((one["status"], one["response"], one["attempts"]) for one in deliveries) == {("failed", 400, 1): 4}


async def test_registering_an_endpoint_again_changes_its_secret(sandbox: Served, hook: Receiver) -> None:
    await sandbox.control("PUT", "/endpoints", {"url": hook.url, "secret": "whsec_new"})
    assert len((await sandbox.client.v1.webhook_endpoints.list_async()).data) == 1
    await sandbox.paid()
    await hook.wait_for(4)
    assert stripe.Webhook.construct_event(*hook.got[0], "whsec_new").type == PAYMENT[0]
