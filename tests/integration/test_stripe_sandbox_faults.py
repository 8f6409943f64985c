"""Idempotency keys and faults: what a client sees when things go wrong, and what was really done."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import stripe

from tests.integration.stripe_sandbox import Served, serve

Create = Callable[..., Awaitable[stripe.Customer]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


@pytest.fixture
def create(sandbox: Served) -> Create:
    async def create(key: str, email: str = "mina@example.com") -> stripe.Customer:
        return await sandbox.client.v1.customers.create_async({"email": email}, {"idempotency_key": key})

    return create


async def _arm(sandbox: Served, mode: str, **more: Any) -> None:
    fault = {"match": {"method": "POST", "path": "/v1/customers*"}, "mode": mode, **more}
    await sandbox.control("POST", "/faults", fault)


async def _customers(sandbox: Served) -> int:
    return len((await sandbox.client.v1.customers.list_async()).data)


async def _log(sandbox: Served) -> list[tuple[int, bool, str | None]]:
    """(status, replayed, fault) of each customer creation."""
    rows = await sandbox.control("GET", "/requests?path=/v1/customers")
    return [(row["status"], row["replayed"], row["fault"]) for row in rows]


def _header(answer: stripe.StripeObject, name: str) -> str | None:
    assert answer.last_response is not None
    return answer.last_response.headers.get(name)


async def test_a_repeated_key_repeats_the_answer(sandbox: Served, create: Create) -> None:
    first, second = await create("k"), await create("k")
    assert (first.id, await _customers(sandbox)) == (second.id, 1)
    assert (_header(first, "Idempotent-Replayed"), _header(second, "Idempotent-Replayed")) == (None, "true")
    assert _header(second, "Original-Request") == _header(first, "Request-Id")
    assert _header(second, "Idempotency-Key") == "k"
    assert await _log(sandbox) == [(200, False, None), (200, True, None)]


async def test_a_key_with_other_parameters_is_refused(sandbox: Served, create: Create) -> None:
    await create("k")
    with pytest.raises(stripe.IdempotencyError) as refusal:
        await create("k", "other@example.com")
    assert refusal.value.http_status == 400
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        await sandbox.client.v1.products.create_async({"name": "x"}, {"idempotency_key": "k"})
    assert await _customers(sandbox) == 1


async def test_a_key_of_another_account_is_another_key(sandbox: Served, create: Create) -> None:
    mine = await create("k")
    theirs = await sandbox.client.v1.customers.create_async(
        {"email": "o@example.com"}, {"idempotency_key": "k", "api_key": "sk_test_other"}
    )
    assert mine.id != theirs.id


async def test_a_key_meets_409_while_its_first_request_runs(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "latency", latency_seconds=1)
    answers = await asyncio.gather(create("k"), create("k"), return_exceptions=True)
    (made,) = [answer for answer in answers if isinstance(answer, stripe.Customer)]
    (refusal,) = [answer for answer in answers if isinstance(answer, stripe.APIError)]
    assert (refusal.http_status, refusal.code) == (409, None)
    assert (await create("k")).id == made.id


async def test_keys_are_forgotten_after_a_day(sandbox: Served, create: Create) -> None:
    first = await create("k")
    await sandbox.control("POST", "/clock", {"advance_seconds": 86_390})
    assert (await create("k")).id == first.id
    await sandbox.control("POST", "/clock", {"advance_seconds": 10})
    assert (await create("k")).id != first.id


async def test_executed_refusals_are_remembered_and_validation_is_not(sandbox: Served) -> None:
    charge = await sandbox.paid()
    refunds = sandbox.client.v1.refunds
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError):
            await refunds.create_async({"charge": charge.id, "amount": 5000}, {"idempotency_key": "executed"})
        with pytest.raises(stripe.InvalidRequestError):
            await refunds.create_async({"charge": charge.id, "amount": -1}, {"idempotency_key": "validated"})
    log = await sandbox.control("GET", "/requests?path=/v1/refunds")
    assert [(row["key"], row["replayed"]) for row in log] == [
        ("executed", False),
        ("validated", False),
        ("executed", True),
        ("validated", False),
    ]
    fine = await refunds.create_async({"charge": charge.id, "amount": 1}, {"idempotency_key": "validated"})
    assert fine.amount == 1


async def test_a_remembered_decline_keeps_its_effects(sandbox: Served) -> None:
    api = sandbox.client.v1.payment_intents
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            await api.create_async(
                {"amount": 500, "currency": "usd", "confirm": True, "payment_method": "pm_card_chargeDeclined"},
                {"idempotency_key": "k"},
            )
    (intent,) = (await api.list_async()).data
    assert intent.status == "requires_payment_method"


async def test_a_request_dropped_before_it_ran_did_nothing(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "drop_before")
    with pytest.raises(stripe.APIConnectionError):
        await create("k")
    assert await _customers(sandbox) == 0
    made = await create("k")
    assert _header(made, "Idempotent-Replayed") is None
    assert await _log(sandbox) == [(0, False, "drop_before"), (200, False, None)]


async def test_an_answer_dropped_after_commit_can_be_had_again(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "drop_after_commit", times=2)
    for _ in range(2):
        with pytest.raises(stripe.APIConnectionError):
            await create("k")
    made = await create("k")
    assert (_header(made, "Idempotent-Replayed"), await _customers(sandbox)) == ("true", 1)


@pytest.mark.parametrize(
    ("mode", "error", "status"),
    [("429", stripe.RateLimitError, 429), ("409", stripe.APIError, 409), ("500_unstored", stripe.APIError, 500)],
)
async def test_passing_failures_are_not_remembered(
    sandbox: Served, create: Create, mode: str, error: type[stripe.StripeError], status: int
) -> None:
    await _arm(sandbox, mode)
    with pytest.raises(error) as failure:
        await create("k")
    assert failure.value.http_status == status
    assert (await create("k")).email == "mina@example.com"


async def test_a_stored_500_is_repeated_for_a_day(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "500_stored")
    for _ in range(3):
        with pytest.raises(stripe.APIError) as failure:
            await create("k")
        assert failure.value.http_status == 500
    assert await _customers(sandbox) == 0
    await sandbox.control("POST", "/clock", {"advance_seconds": 86_400})
    assert (await create("k")).email == "mina@example.com"


async def test_a_stored_500_may_hide_a_request_that_ran(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "500_stored", executed=True)
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            await create("k")
    assert await _customers(sandbox) == 1


@pytest.mark.parametrize("executed", [False, True])
async def test_a_get_fails_too(sandbox: Served, executed: bool) -> None:
    fault = {"match": {"path": "/v1/customers"}, "mode": "500_stored", "executed": executed}
    await sandbox.control("POST", "/faults", fault)
    with pytest.raises(stripe.APIError) as failure:
        await _customers(sandbox)
    assert failure.value.http_status == 500
    assert await _customers(sandbox) == 0


async def test_a_repeated_answer_can_be_slow(sandbox: Served, create: Create) -> None:
    await create("k")
    await _arm(sandbox, "latency", latency_seconds=0.3)
    begun = time.monotonic()
    assert _header(await create("k"), "Idempotent-Replayed") == "true"
    assert time.monotonic() - begun >= 0.3


async def test_an_answer_can_be_slow_when_all_is_done(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "latency_after", latency_seconds=2)
    slow = asyncio.ensure_future(create("k"))
    async with asyncio.timeout(10):
        while not await _customers(sandbox):
            await asyncio.sleep(0.02)
    replayed = await create("k")
    assert (_header(replayed, "Idempotent-Replayed"), slow.done()) == ("true", False)
    assert (await slow).id == replayed.id


@pytest.mark.parametrize(
    "fault",
    [{"mode": "429", "executed": True}, {"mode": "latency", "executed": True}, {"mode": "409", "latency_seconds": 1}],
)
async def test_a_fault_says_nothing_that_its_mode_ignores(sandbox: Served, fault: dict[str, Any]) -> None:
    assert "detail" in await sandbox.control("POST", "/faults", fault)
    assert await sandbox.control("GET", "/faults") == []


async def test_connected_accounts_are_refused_rather_than_ignored(sandbox: Served) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="connected accounts"):
        await sandbox.client.v1.customers.list_async(options={"stripe_account": "acct_1"})


async def test_faults_hit_only_what_they_match(sandbox: Served, create: Create) -> None:
    await _arm(sandbox, "429", times=5)
    await sandbox.client.v1.products.create_async({"name": "x"})
    assert await _customers(sandbox) == 0
    await sandbox.client.v1.customers.create_async({"email": "o@example.com"}, {"api_key": "sk_test_other"})
    await sandbox.control("DELETE", "/faults")
    assert (await create("k")).email == "mina@example.com"


async def test_a_key_may_have_255_characters(sandbox: Served, create: Create) -> None:
    await create("k" * 255)
    with pytest.raises(stripe.InvalidRequestError, match="255"):
        await create("k" * 256)
