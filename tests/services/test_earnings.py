"""Earnings, and that the totals of earnings and payments are compared with the ledger."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from domain import ledger as postings
from domain.ledger import Settlement
from domain.pricing import RecipientKind, Share
from models.earning import Earning
from models.order import OrderLine
from models.payment import Payment, Refund
from services import earnings
from services.ledger_checks import Break, find_breaks
from tests.services.books import CREATORS
from tests.support.sold import book, sell

STUDENT, ANN, *_ = CREATORS
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(days=30)


async def sold(session: AsyncSession) -> Payment:
    return await sell(session, student_id=STUDENT, teacher_id=ANN, now=NOW)


async def line_of(session: AsyncSession, payment: Payment) -> UUID:
    line = await session.scalar(select(OrderLine.id).where(OrderLine.order_id == payment.order_id))
    assert line is not None
    return line


async def settle(session: AsyncSession, payment: Payment) -> None:
    settlement = Settlement(f"txn_{payment.id.hex}", "usd", payment.amount, 182, payment.amount - 182, NOW)
    [settled] = postings.settle(
        charge=payment.stripe_charge,
        order_id=payment.order_id,
        gross=payment.amount,
        currency="usd",
        settlement=settlement,
    )
    await book(session, payment.order_id, settled, NOW)
    payment.settled_at = NOW


async def give_back(session: AsyncSession, payment: Payment) -> None:
    """The stray part of the payment is returned and Stripe has taken it."""
    refund = Refund(
        order_id=payment.order_id,
        payment_id=payment.id,
        amount=payment.unapplied_amount,
        currency="usd",
        source="duplicate",
        reason="amount_mismatch",
        status="succeeded",
        settled_at=NOW,
    )
    session.add(refund)
    await session.flush()
    money: dict[str, Any] = {"refund_id": refund.id, "order_id": payment.order_id}
    money |= {"amount": refund.amount, "currency": "usd"}
    returning = postings.unapplied_refund(charge=payment.stripe_charge, **money)
    settlement = Settlement(f"txn_{refund.id.hex}", "usd", -refund.amount, 0, -refund.amount, NOW)
    [taken] = postings.refund_settle(stripe_refund="re_1", settlement=settlement, **money)
    for posting in (returning, taken):
        await book(session, payment.order_id, posting, NOW)


async def test_each_recipient_has_one_earning_however_often_a_sale_is_recorded(ledger_db: Database) -> None:
    async with ledger_db.transaction() as session:
        line_id = await line_of(session, await sold(session))
        again = [Share(RecipientKind.CREATOR, 2974, ANN), Share(RecipientKind.PLATFORM, 1275)]
        await earnings.record_sale(session, line_id, again, currency="usd", release_at=NOW)
        await earnings.record_sale(session, line_id, [], currency="usd", release_at=NOW)
        rows = await session.scalars(select(Earning).order_by(Earning.share.desc()))
        assert [
            (row.order_line_id, row.recipient_kind, row.creator_id, row.currency, row.share, row.release_at)
            for row in rows
        ] == [(line_id, "creator", ANN, "usd", 2974, LATER), (line_id, "platform", None, "usd", 1275, None)]


async def test_a_release_moves_back_to_when_the_money_is_available_and_never_forward(ledger_db: Database) -> None:
    async with ledger_db.transaction() as session:
        payment = await sold(session)
        for available_on, release_at in ((NOW, LATER), (LATER + timedelta(days=5), LATER + timedelta(days=5))):
            await earnings.delay_release(session, payment.order_id, available_on=available_on)
            found = (await session.execute(select(Earning.recipient_kind, Earning.release_at))).all()
            assert sorted(found) == [("creator", release_at), ("platform", None)]


@pytest.mark.parametrize(
    "change",
    [
        "taken = 2975",
        "taken = 2000, held = 975",
        "taken = -1",
        "held = -1",
        "creator_id = null",
        "release_at = null",
        "recipient_kind = 'bank'",
    ],
)
async def test_what_cannot_be_is_refused(ledger_db: Database, change: str) -> None:
    async with ledger_db.transaction() as session:
        await sold(session)
    with pytest.raises(IntegrityError, match="ck_earnings"):
        async with ledger_db.transaction() as session:
            await session.execute(text(f"update earnings set {change} where creator_id is not null"))  # noqa: S608


async def test_an_order_paid_settled_and_given_back_leaves_the_books_right_at_each_step(ledger_db: Database) -> None:
    async with ledger_db.transaction() as session:
        for step in (settle, give_back):
            payment = await sold(session)
            assert await find_breaks(session) == []
            await step(session, payment)
            await session.flush()
            assert await find_breaks(session) == []


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (
            "update earnings set taken = 1 where creator_id is not null",
            Break("earnings_totals", f"creator_pending:{ANN} usd", "ledger -2974, earnings -2973"),
        ),
        (
            "update earnings set share = share + 5 where recipient_kind = 'platform'",
            Break("earnings_totals", "platform usd", "ledger -1275, earnings -1280"),
        ),
        (
            "update payments set booked_at = null, unapplied_amount = 0",
            Break("payment_totals", "unsettled usd", "ledger 5249, payments 0"),
        ),
        (
            "update payments set settled_at = now()",
            Break("payment_totals", "unsettled usd", "ledger 5249, payments 0"),
        ),
        (
            "update payments set unapplied_amount = 999",
            Break("payment_totals", "owed to students usd", "ledger -1000, payments -999"),
        ),
    ],
)
async def test_rows_that_disagree_with_the_ledger_are_found(ledger_db: Database, damage: str, broken: Break) -> None:
    async with ledger_db.transaction() as session:
        await sold(session)
        await session.execute(text(damage))
        assert broken in await find_breaks(session)
