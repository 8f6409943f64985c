"""The product's Stripe client against the sandbox: what it learns, and what it makes of failures."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from core.integrations.stripe import CheckoutSession, StripeGateway, StripeMisuse, StripeRefused, StripeTransient
from core.settings import StripeSettings
from tests.integration.stripe_sandbox import KEY, Served


async def _open(gateway: StripeGateway, order: UUID, attempt: int = 1, **changes: Any) -> CheckoutSession:
    params: dict[str, Any] = {
        "idempotency_key": f"co:{order}:{attempt}",
        "order_id": order,
        "attempt": attempt,
        "student_email": "mina@example.com",
        "lines": [("A", 3000), ("B", 1249)],
        "currency": "usd",
        "expires_at": datetime.now(UTC) + timedelta(minutes=31),
        "success_url": "http://127.0.0.1:1/ok",
        "cancel_url": "http://127.0.0.1:1/back",
    }
    return await gateway.create_checkout(**{**params, **changes})


async def test_an_open_checkout_has_no_payment(gateway: StripeGateway) -> None:
    order = uuid4()
    session = await _open(gateway, order)
    state = await gateway.retrieve_checkout(session.id)
    assert session.url.endswith(f"/c/pay/{session.id}")
    assert (state.status, state.livemode, state.payment_intent) == ("open", False, None)


async def test_a_paid_checkout_shows_charge_and_balance_transaction(sandbox: Served, gateway: StripeGateway) -> None:
    session = await _open(gateway, uuid4())
    await sandbox.pay(session.id)
    state = await gateway.retrieve_checkout(session.id)
    assert state.payment_intent is not None
    charge = state.payment_intent.charge
    assert charge is not None
    assert (state.status, state.payment_intent.status) == ("complete", "succeeded")
    assert (charge.amount, charge.currency) == (4249, "usd")
    assert charge.balance_transaction is not None
    assert (charge.balance_transaction.fee, charge.balance_transaction.net) == (153, 4096)


async def test_a_declined_charge_is_not_paid(sandbox: Served, gateway: StripeGateway) -> None:
    session = await _open(gateway, uuid4())
    await sandbox.pay(session.id, "4000000000000002")
    state = await gateway.retrieve_checkout(session.id)
    assert state.payment_intent is not None
    assert (state.status, state.payment_intent.status) == ("open", "requires_payment_method")


async def test_a_lost_answer_is_found_by_order_and_attempt(sandbox: Served, gateway: StripeGateway) -> None:
    order, since = uuid4(), datetime.now(UTC)
    await sandbox.control("POST", "/faults", {"mode": "drop_after_commit"})
    with pytest.raises(StripeTransient):
        await _open(gateway, order)
    found = await gateway.find_checkout(order, 1, since)
    assert found is not None
    assert await gateway.find_checkout(order, 2, since) is None
    assert await gateway.find_checkout(uuid4(), 1, since) is None
    assert (await _open(gateway, order, expires_at=found.expires_at)).id == found.id


async def test_a_lost_answer_is_found_beyond_the_first_page(sandbox: Served, gateway: StripeGateway) -> None:
    order, since = uuid4(), datetime.now(UTC)
    mine = [await _open(gateway, order, attempt) for attempt in (1, 2)]
    other = await sandbox.checkout()
    await asyncio.gather(*(sandbox.control("POST", f"/checkout/{other.id}/duplicate") for _ in range(100)))
    assert [await gateway.find_checkout(order, attempt, since) for attempt in (1, 2)] == mine


@pytest.mark.parametrize(("pay", "status"), [(False, "expired"), (True, "complete")])
async def test_expiring_tells_what_became_of_the_session(
    sandbox: Served, gateway: StripeGateway, pay: bool, status: str
) -> None:
    session = await _open(gateway, uuid4())
    if pay:
        await sandbox.pay(session.id)
    assert (await gateway.expire_checkout(session.id, idempotency_key=f"cox:{session.id}")).status == status


async def test_refunds_carry_their_balance_transaction(sandbox: Served, gateway: StripeGateway) -> None:
    charge = await sandbox.paid()
    made = await gateway.create_refund(
        idempotency_key="rf:1:1", charge_id=charge.id, amount=1000, reason="duplicate", metadata={"refund_id": "1"}
    )
    assert (made.status, made.amount, made.metadata) == ("succeeded", 1000, {"refund_id": "1"})
    assert made.balance_transaction is not None
    assert (made.balance_transaction.net, made.balance_transaction.fee) == (-1000, 0)
    assert await gateway.retrieve_refund(made.id) == made
    assert await gateway.list_refunds(str(charge.payment_intent)) == [made]


@pytest.mark.parametrize("mode", ["drop_before", "drop_after_commit", "429", "409", "500_unstored"])
async def test_what_may_pass_is_transient(sandbox: Served, gateway: StripeGateway, mode: str) -> None:
    order, deadline = uuid4(), datetime.now(UTC) + timedelta(minutes=31)
    await sandbox.control("POST", "/faults", {"mode": mode})
    with pytest.raises(StripeTransient) as failure:
        await _open(gateway, order, expires_at=deadline)
    assert failure.value.remembered is False
    assert (await _open(gateway, order, expires_at=deadline)).url


async def test_a_slow_answer_is_transient(sandbox: Served) -> None:
    await sandbox.control("POST", "/faults", {"mode": "latency", "latency_seconds": 1})
    hasty = StripeGateway(StripeSettings(secret_key=SecretStr(KEY), api_base=sandbox.url, timeout=0.2))
    with pytest.raises(StripeTransient):
        await _open(hasty, uuid4())
    await hasty.aclose()


async def test_a_remembered_failure_says_so(sandbox: Served, gateway: StripeGateway) -> None:
    order, deadline = uuid4(), datetime.now(UTC) + timedelta(minutes=31)
    await sandbox.control("POST", "/faults", {"mode": "500_stored"})
    seen = []
    for _ in range(2):
        with pytest.raises(StripeTransient) as failure:
            await _open(gateway, order, expires_at=deadline)
        seen.append(failure.value.remembered)
    assert seen == [False, True]


async def test_a_definitive_no_is_refused_with_its_code(sandbox: Served, gateway: StripeGateway) -> None:
    charge = await sandbox.paid()
    await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    with pytest.raises(StripeRefused) as refusal:
        await gateway.create_refund(idempotency_key="r", charge_id=charge.id, amount=1, reason=None, metadata={})
    assert (refusal.value.code, refusal.value.http_status) == ("charge_already_refunded", 400)


async def test_our_own_mistakes_are_misuse(sandbox: Served, gateway: StripeGateway) -> None:
    order = uuid4()
    await _open(gateway, order)
    with pytest.raises(StripeMisuse):  # the same key for something else
        await _open(gateway, order, lines=[("A", 1000)])
    foreign = StripeGateway(StripeSettings(secret_key=SecretStr("sk_wrong"), api_base=sandbox.url))
    with pytest.raises(StripeMisuse):
        await foreign.retrieve_checkout("cs_1")
    await foreign.aclose()
