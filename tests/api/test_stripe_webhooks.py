"""Stripe's webhooks at the door: what is believed, what is stored, and that nothing stored is forgotten.

Temporal does not answer here until the sweeper's tests let it, so that every poke is one of theirs.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType

from api.container import AppContainer
from api.sweeper import sweep
from core.ids import new_id
from core.settings import Settings
from core.temporal import connect
from tests.api.conftest import serving
from tests.api.counter import Counter, opened, shop_settings, without_temporal
from tests.api.webhooks import event_of, post, post_event, signature
from tests.support import scenes
from tests.support.authoring import problem
from tests.support.stack import Servers
from workflows.shared import ids


@pytest.fixture(scope="module")
async def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    async with shop_settings(servers, tmp_path_factory.mktemp("house")) as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def door(house: Settings) -> AsyncIterator[Counter]:
    async with opened(without_temporal(house), working=False) as counter:
        yield counter


@pytest.fixture
async def awake(house: Settings) -> AsyncIterator[AppContainer]:
    """What an API process holds while Temporal answers; nothing of it runs by itself."""
    container = AppContainer.build(house)
    yield container
    await container.aclose()


def secret_of(door: Counter) -> str:
    return door.settings.stripe.webhook_secrets.get_secret_value()


async def order(door: Counter) -> str:
    """An order nobody's process knows of yet."""
    async with door.db.transaction() as session:
        owner, student = await scenes.add_user(session), await scenes.add_user(session)
        course = await scenes.add_course(session, owner.id, "Tides")
        return str((await scenes.add_order(session, student.id, course, granted=0, status="paying")).id)


async def stored(door: Counter, event: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The inbox's rows of the event: type, object, process kind, subject, whether it was dispatched."""
    query = (
        "select type, object_id, process_kind, process_subject::text, dispatched_at is not null from stripe_events"
        " where id = :id"
    )
    async with door.db.read() as session:
        return [tuple(row) for row in await session.execute(text(query), {"id": event["id"]})]


async def inbox(door: Counter) -> int:
    async with door.db.read() as session:
        count: int = (await session.execute(text("select count(*) from stripe_events"))).scalar_one()
        return count


async def undispatched(door: Counter, age: int = 11) -> None:
    """Every event that waits has waited for `age` seconds."""
    async with door.db.transaction() as session:
        await session.execute(
            text(
                "update stripe_events set received_at = now() - make_interval(secs => :age) where dispatched_at is null"
            ),
            {"age": age},
        )


async def forget(door: Counter) -> None:
    async with door.db.transaction() as session:
        await session.execute(text("delete from stripe_events"))


# Who is believed


@pytest.mark.parametrize("forged", ["other secret", "old", "changed body", "empty", "missing", "nonsense"])
async def test_what_stripe_did_not_sign_just_now_is_refused(door: Counter, forged: str) -> None:
    body = json.dumps(event_of(client_reference_id=await order(door)))
    header = {
        "other secret": signature(body, "whsec_other"),
        "old": signature(body, secret_of(door), age=301),
        "changed body": signature(body + " ", secret_of(door)),
        "empty": "",
        "missing": None,
        "nonsense": "t=now,v1=trust-me",
    }[forged]
    before = await inbox(door)
    assert problem(await post(door.client, body, header)) == (401, "InvalidSignature", [])
    assert await inbox(door) == before


async def test_a_signature_too_long_to_be_one_is_refused(door: Counter) -> None:
    body = json.dumps(event_of())
    answer = await post(door.client, body, signature(body, secret_of(door)) + ",v1=" + "0" * 2000)
    assert problem(answer) == (422, "ValidationFailed", [("Stripe-Signature", "string_too_long")])


async def test_a_signed_body_that_is_no_event_is_refused(door: Counter) -> None:
    before = await inbox(door)
    for body in ("", "[]", "{}", "null", "not json", '{"id": "evt_1", "data": {"object": []}}'):
        answer = await post(door.client, body, signature(body, secret_of(door)))
        assert problem(answer) == (401, "InvalidSignature", []), body
    assert await inbox(door) == before


async def test_without_a_secret_nothing_is_believed(house: Settings) -> None:
    for secrets in ("", " , "):
        deaf = house.model_copy(
            update={"stripe": house.stripe.model_copy(update={"webhook_secrets": SecretStr(secrets)})}
        )
        async with serving(without_temporal(deaf)) as (_, client):
            body = json.dumps(event_of())
            for secret in ("", " ", "whsec_guess"):
                answer = await post(client, body, signature(body, secret or "x"))
                assert problem(answer) == (404, "WebhookNotConfigured", [])


async def test_both_secrets_of_a_rotation_are_believed(house: Settings, door: Counter) -> None:
    both = house.model_copy(
        update={"stripe": house.stripe.model_copy(update={"webhook_secrets": SecretStr("whsec_new, whsec_old")})}
    )
    async with serving(without_temporal(both)) as (_, client):
        for secret in ("whsec_new", "whsec_old"):
            event = event_of()
            body = json.dumps(event)
            answer = await post(client, body, signature(body, secret))
            assert (answer.status_code, answer.json()) == (200, {"received": True})
            assert len(await stored(door, event)) == 1


async def test_a_body_of_five_megabytes_is_refused(door: Counter) -> None:
    body = json.dumps(event_of(client_reference_id=await order(door)) | {"padding": "x" * 5 * 1024 * 1024})
    before = await inbox(door)
    assert problem(await post(door.client, body, signature(body, secret_of(door)))) == (413, "BodyTooLarge", [])

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536].encode()

    headers = {"Stripe-Signature": signature(body, secret_of(door))}
    undeclared = await door.client.post("/webhooks/stripe", content=chunks(), headers=headers)
    assert problem(undeclared) == (413, "BodyTooLarge", [])
    assert await inbox(door) == before


# What is stored


async def test_the_same_event_ten_times_is_stored_once(door: Counter) -> None:
    order_id = await order(door)
    event = event_of(client_reference_id=order_id)
    answers = [await post_event(door.client, door.settings, event) for _ in range(5)]
    answers += await asyncio.gather(*(post_event(door.client, door.settings, event) for _ in range(5)))
    assert {(answer.status_code, answer.json()["received"]) for answer in answers} == {(200, True)}
    assert await stored(door, event) == [
        (event["type"], event["data"]["object"]["id"], "order", order_id, False),
    ]


async def test_many_deliveries_at_once_store_each_event_once(door: Counter) -> None:
    event = event_of(client_reference_id=await order(door))
    answers = await asyncio.gather(*(post_event(door.client, door.settings, event) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await stored(door, event)) == 1


@pytest.mark.parametrize(
    "event",
    [
        event_of(client_reference_id=str(uuid4())),
        event_of(client_reference_id="not-ours"),
        event_of(client_reference_id=None),
        event_of(client_reference_id="theirs", metadata={"attempt": "first"}),
        event_of(client_reference_id=str(uuid4()), metadata={"attempt": "99999999999"}),
        event_of("payment_intent.succeeded", metadata={"order_id": str(uuid4())}),
        event_of("refund.updated", metadata={"refund_id": str(uuid4())}),
        event_of("refund.updated", metadata={}),
        event_of("charge.refunded", metadata={"order_id": str(uuid4())}),
        event_of("customer.created"),
        event_of("some.future.event", metadata=None),
    ],
    ids=lambda event: event["type"],
)
async def test_what_concerns_nobody_here_is_stored_and_ignored(door: Counter, event: dict[str, Any]) -> None:
    assert (await post_event(door.client, door.settings, event)).status_code == 200
    assert await stored(door, event) == [(event["type"], event["data"]["object"]["id"], None, None, False)]


@pytest.mark.parametrize(
    ("type", "field"),
    [
        ("checkout.session.completed", "client_reference_id"),
        ("checkout.session.expired", "client_reference_id"),
        ("payment_intent.succeeded", "metadata"),
        ("charge.updated", "metadata"),
    ],
)
async def test_an_event_names_the_order_it_concerns(door: Counter, type: str, field: str) -> None:
    order_id = await order(door)
    event = event_of(type, **{field: {"order_id": order_id} if field == "metadata" else order_id})
    assert (await post_event(door.client, door.settings, event)).status_code == 200
    assert [row[2:4] for row in await stored(door, event)] == [("order", order_id)]


async def test_a_session_nobody_answered_for_is_learned_from_its_webhook(door: Counter) -> None:
    order_id = await order(door)
    event = event_of(
        client_reference_id=order_id,
        metadata={"order_id": order_id, "attempt": "2"},
        url=None,
        expires_at=1_800_000_000,
    )
    for _ in range(2):
        assert (await post_event(door.client, door.settings, event)).status_code == 200
    query = "select stripe_session, n, url, extract(epoch from expires_at)::bigint from checkout_sessions"
    async with door.db.read() as session:
        found = await session.execute(text(f"{query} where order_id = :id"), {"id": UUID(order_id)})
        assert [tuple(row) for row in found] == [(event["data"]["object"]["id"], 2, "", 1_800_000_000)]


async def test_news_of_a_payment_that_is_settled_need_no_process(door: Counter) -> None:
    order_id, charge = await order(door), f"ch_{new_id().hex}"
    async with door.db.transaction() as session:
        await session.execute(
            text(
                "insert into payments (order_id, stripe_session, stripe_payment_intent, stripe_charge, amount,"
                " currency, livemode, booked_at, settled_at)"
                " values (:order, :charge, :charge, :charge, 1, 'usd', false, now(), now())"
            ),
            {"order": UUID(order_id), "charge": charge},
        )
    event = event_of("charge.updated", id=charge, metadata={"order_id": order_id})
    assert (await post_event(door.client, door.settings, event)).status_code == 200
    assert await stored(door, event) == [("charge.updated", charge, "order", order_id, True)]


# The sweeper


async def pokes(settings: Settings, order_id: str) -> int:
    """How often the order's process was poked; 0 when there is none."""
    handle = (await connect(settings)).get_workflow_handle(ids.process_id("order", UUID(order_id)))
    kinds = [event.event_type async for event in handle.fetch_history_events()]
    return kinds.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)


async def test_the_sweeper_pokes_what_was_stored_and_never_dispatched(
    house: Settings, door: Counter, awake: AppContainer
) -> None:
    await forget(door)
    order_id, other_id = await order(door), await order(door)
    events = [event_of(client_reference_id=each) for each in (order_id, order_id, other_id)]
    ignored = event_of("customer.created")
    for event in (*events, ignored):
        assert (await post_event(door.client, door.settings, event)).status_code == 200
    assert await sweep(awake) == 0  # whoever stored them has ten seconds to poke by itself
    await undispatched(door)
    assert await sweep(awake) == 3
    assert [(await stored(door, event))[0][4] for event in (*events, ignored)] == [True, True, True, False]
    assert (await pokes(house, order_id), await pokes(house, other_id)) == (2, 1)
    assert await sweep(awake) == 0


async def test_a_sweep_that_meets_an_outage_leaves_the_events_to_the_next(
    house: Settings, door: Counter, awake: AppContainer
) -> None:
    await forget(door)
    event = event_of(client_reference_id=await order(door))
    assert (await post_event(door.client, door.settings, event)).status_code == 200
    await undispatched(door)
    with pytest.raises(Exception, match="Temporal cannot be reached"):
        await sweep(door.container)
    assert (await stored(door, event))[0][4] is False
    assert await sweep(awake) == 1


async def test_with_temporal_an_event_is_dispatched_at_once(house: Settings, door: Counter) -> None:
    order_id = await order(door)
    event = event_of(client_reference_id=order_id)
    async with serving(house) as (_, client):
        assert (await post_event(client, house, event)).status_code == 200
    assert await stored(door, event) == [(event["type"], event["data"]["object"]["id"], "order", order_id, True)]
    assert await pokes(house, order_id) == 1


async def test_while_the_database_is_away_stripe_is_asked_to_come_again(house: Settings) -> None:
    nowhere = house.database.model_copy(update={"url": SecretStr("postgresql+asyncpg://x:y@127.0.0.1:1/x")})
    async with serving(without_temporal(house.model_copy(update={"database": nowhere}))) as (_, client):
        answer: httpx2.Response = await post_event(client, house, event_of(client_reference_id=str(uuid4())))
    assert (problem(answer), answer.headers["Retry-After"]) == ((503, "ServiceUnavailable", []), "5")
