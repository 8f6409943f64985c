"""The Refund process's calls to Stripe when keys are forgotten or somebody else was faster: money goes back once."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.refunds import RefundActivities
from core import clock
from core.db import Database
from core.integrations.stripe import StripeGateway, StripeRefused, StripeTransient
from domain import ledger as postings
from domain.contracts.processes import RefundState, Subject
from models.payment import Payment, Refund
from tests.integration.stripe_sandbox import Served
from tests.support import isolation
from tests.support.scenes import add_order, add_stray_payment, add_user
from tests.support.sold import book
from tests.support.stack import Servers

STRAY = 2100
Submit = Callable[..., Awaitable[RefundState]]


@pytest.fixture(scope="module")
async def db(servers: Servers) -> AsyncIterator[Database]:
    """Of its own: what is booked here without an order's other half would break every other test's books."""
    async with isolation.corner(servers) as settings:
        database = Database(settings.database, application_name="tests")
        yield database
        await database.dispose()


@pytest.fixture
async def refund(sandbox: Served, db: Database) -> Refund:
    """21 of 42.49 dollars that were really charged bought nothing."""
    charge = await sandbox.paid()
    async with db.transaction() as session:
        order = await add_order(session, (await add_user(session)).id, granted=0, status="expired")
        payment, refund = await add_stray_payment(session, order, STRAY, "amount_mismatch")
        payment.stripe_charge, payment.stripe_payment_intent = charge.id, str(charge.payment_intent)
        refund.status = "reserved"
        money: dict[str, Any] = {"charge": charge.id, "order_id": order.id, "amount": STRAY, "currency": "usd"}
        for posting in (
            postings.unapplied(**money, reason=refund.reason),
            postings.unapplied_refund(**money, refund_id=refund.id),
        ):
            await book(session, order.id, posting, clock.now())
    return refund


@pytest.fixture
def submit(gateway: StripeGateway, db: Database, refund: Refund) -> Submit:
    """`await submit(hours=25)`: what the process does that long after now."""

    async def act(hours: float = 0) -> RefundState:
        subject = Subject(id=refund.id, now=clock.now() + timedelta(hours=hours))
        return await ActivityEnvironment().run(RefundActivities(db, gateway).submit, subject)

    return act


async def _made(sandbox: Served) -> list[tuple[str, int]]:
    page = await sandbox.client.v1.refunds.list_async({"limit": 100})
    return [(found.id, found.amount) for found in page.data]


async def _known(db: Database, refund: Refund) -> str | None:
    async with db.read() as session:
        return (await session.get_one(Refund, refund.id)).stripe_refund


async def test_a_refund_whose_key_is_forgotten_is_found(
    sandbox: Served, db: Database, refund: Refund, submit: Submit
) -> None:
    await sandbox.control("POST", "/faults", {"mode": "drop_after_commit", "match": {"path": "/v1/refunds"}})
    with pytest.raises(StripeTransient):
        await submit()
    await sandbox.control("POST", "/clock", {"advance_seconds": 25 * 3600})
    assert (await submit(hours=25)).status == "succeeded"
    [(made, amount)] = await _made(sandbox)
    assert (made, amount) == (await _known(db, refund), STRAY)


async def test_money_that_went_back_already_is_taken_for_this_refund(
    sandbox: Served, db: Database, refund: Refund, submit: Submit
) -> None:
    """Somebody gave the whole charge back at Stripe, in two parts: there is nothing left to give."""
    async with db.read() as session:
        charge = (await session.get_one(Payment, refund.payment_id)).stripe_charge
    for amount in (STRAY, 4249 - STRAY):
        await sandbox.client.v1.refunds.create_async({"charge": charge, "amount": amount})
    assert (await submit()).status == "succeeded"
    made = {amount: found for found, amount in await _made(sandbox)}
    assert await _known(db, refund) == made[STRAY]


async def test_other_money_that_went_back_is_not_taken_for_it(
    sandbox: Served, db: Database, refund: Refund, submit: Submit
) -> None:
    async with db.read() as session:
        charge = (await session.get_one(Payment, refund.payment_id)).stripe_charge
    await sandbox.client.v1.refunds.create_async({"charge": charge})
    with pytest.raises(StripeRefused) as refused:
        await submit()
    assert refused.value.code == "charge_already_refunded"
    assert await _known(db, refund) is None
