"""The ledger on PostgreSQL: posted once, in balance, append-only, safe under concurrency."""

import asyncio
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.db import Database
from domain import ledger as postings
from domain.ledger import Line, Posting, PostingConflict, PostingKind, Settlement, SignViolation
from domain.money import CURRENCIES
from domain.pricing import RecipientKind, Share
from services import ledger
from services.ledger import EntryRecord, PostedTransaction
from tests.services.books import CREATORS, NOW, assert_sound, counts, post, post_alone, sale, settle

ANN, BOB, CAT, _ = CREATORS


async def test_a_sale_and_its_settlement_are_booked_and_read_back(ledger_db: Database) -> None:
    order_id = uuid4()
    async with ledger_db.transaction() as session:
        sold = await post(session, sale(order_id))
        await post(session, sale(gross=1000))
    async with ledger_db.read() as session:
        [(booked, entries)] = await ledger.entries_of_order(session, order_id)
        assert (booked.id, booked.posting_key, booked.kind) == (sold.id, f"sale:{order_id}", "sale")
        assert (booked.currency, booked.occurred_at, booked.actor) == ("usd", NOW, "test")
        assert (booked.workflow_id, booked.stripe_balance_txn, booked.memo) == ("order-1", None, {})
        assert entries == [
            EntryRecord("stripe_receivable", None, "usd", 4249, None),
            EntryRecord("creator_pending", ANN, "usd", -2974, -2974),
            EntryRecord("platform_fees", None, "usd", -1275, None),
        ]
        assert await ledger.balance(session, "creator_pending", currency="usd", owner_id=ANN) == -3674
        assert await ledger.balance(session, "creator_pending", currency="usd", owner_id=BOB) == 0
        assert await ledger.balance(session, "stripe_receivable", currency="usd") == 5249
        assert await ledger.balance(session, "stripe_receivable", currency="eur") == 0
        assert await ledger.entries_of_order(session, uuid4()) == []
    await assert_sound(ledger_db)


async def test_posting_again_finds_the_first_posting(ledger_db: Database) -> None:
    posting = sale()
    first = await post_alone(ledger_db, posting)
    again = await post_alone(ledger_db, posting)
    assert first.created
    assert again == PostedTransaction(first.id, posting.key, created=False)
    assert await counts(ledger_db) == (1, 3)


async def test_the_same_key_with_other_content_is_a_conflict_and_changes_nothing(ledger_db: Database) -> None:
    order_id = uuid4()
    await post_alone(ledger_db, sale(order_id))
    async with ledger_db.transaction() as session:
        with pytest.raises(PostingConflict, match="booked with other content"):
            await post(session, sale(order_id, gross=4250))
        assert (await post(session, sale(order_id))).created is False
    assert await counts(ledger_db) == (1, 3)


async def test_a_balance_transaction_is_booked_under_one_key_only(ledger_db: Database) -> None:
    await post_alone(ledger_db, sale())
    await post_alone(ledger_db, settle())
    with pytest.raises(PostingConflict, match="txn_1 is booked under another key than 'settle:ch_2'"):
        await post_alone(ledger_db, settle("ch_2"))
    assert await counts(ledger_db) == (2, 6)


async def test_a_posting_rolled_back_leaves_no_trace_and_can_be_made_again(ledger_db: Database) -> None:
    posting = sale()
    with suppress(LookupError):
        async with ledger_db.transaction() as session:
            await post(session, posting)
            raise LookupError
    assert await counts(ledger_db) == (0, 0)
    async with ledger_db.transaction() as session:
        async with session.begin_nested() as savepoint:
            await post(session, posting)
            await savepoint.rollback()
        async with session.begin_nested():
            assert (await post(session, posting)).created
    assert await counts(ledger_db) == (1, 3)
    await assert_sound(ledger_db)


async def test_a_guarded_account_never_pays_what_it_does_not_hold(ledger_db: Database) -> None:
    [refund] = postings.refund_settle(
        refund_id=uuid4(),
        order_id=uuid4(),
        stripe_refund="re_1",
        amount=1,
        currency="usd",
        settlement=Settlement("txn_9", "usd", -1, 0, -1, NOW),
    )
    with pytest.raises(SignViolation, match="would bring refunds_payable to the wrong side"):
        await post_alone(ledger_db, refund)
    with pytest.raises(DBAPIError, match="unbalanced"):
        await _post_and_carry_on(ledger_db, refund)
    assert await counts(ledger_db) == (0, 0)
    async with ledger_db.read() as session:
        assert await session.scalar(text("select count(*) from ledger_balances where balance <> 0")) == 0


async def _post_and_carry_on(db: Database, posting: Posting) -> None:
    """Who does not listen to a refusal cannot commit either."""
    async with db.transaction() as session:
        with suppress(SignViolation):
            await post(session, posting)


async def test_accounts_are_opened_once(ledger_db: Database) -> None:
    async def open_account(code: str, owner_id: UUID | None) -> UUID:
        async with ledger_db.transaction() as session:
            return await ledger.account(session, code, currency="usd", owner_id=owner_id)

    wanted = [("creator_pending", ANN), ("creator_pending", BOB), ("stripe_balance", None)] * 6
    ids = await asyncio.gather(*(open_account(code, owner_id) for code, owner_id in wanted))
    assert len(set(ids)) == 3
    async with ledger_db.read() as session:
        assert await session.scalar(text("select count(*) from ledger_accounts")) == 3
        assert await session.scalar(text("select count(*) from ledger_balances")) == 2


async def test_currencies_are_those_of_the_domain(ledger_db: Database) -> None:
    async with ledger_db.read() as session:
        rows = await session.execute(
            text(
                "select code, exponent, charge_quantum, payout_quantum, min_charge, payout_threshold, enabled"
                " from currencies"
            )
        )
        assert {row.code: tuple(row) for row in rows} == {
            code: (
                code,
                known.exponent,
                known.charge_quantum,
                known.payout_quantum,
                known.min_charge,
                known.payout_threshold,
                known.enabled,
            )
            for code, known in CURRENCIES.items()
        }


# Concurrency.


async def until_one_waits_for_a_lock(db: Database) -> None:
    waiting = text(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    found = 0
    while not found:
        async with db.read() as session:
            found = await session.scalar(waiting) or 0


@pytest.mark.parametrize("first_commits", [True, False])
async def test_two_workers_with_one_key_make_one_posting(ledger_db: Database, first_commits: bool) -> None:
    posting = sale()
    with suppress(LookupError):
        async with asyncio.timeout(10), ledger_db.transaction() as session:
            first = await post(session, posting)
            second = asyncio.create_task(post_alone(ledger_db, posting))
            await until_one_waits_for_a_lock(ledger_db)
            if not first_commits:
                raise LookupError
    later = await second
    assert later.created is not first_commits
    assert (later.id == first.id) is first_commits
    assert await counts(ledger_db) == (1, 3)


async def test_a_worker_with_the_same_key_and_other_content_conflicts_after_waiting(ledger_db: Database) -> None:
    order_id = uuid4()
    results = await asyncio.gather(
        *(post_alone(ledger_db, sale(order_id, gross=gross)) for gross in (1000, 2000)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["PostedTransaction", "PostingConflict"]
    assert await counts(ledger_db) == (1, 3)


async def test_fifty_parallel_postings_over_shared_accounts_neither_deadlock_nor_lose_a_cent(
    ledger_db: Database,
) -> None:
    def teachers(number: int) -> list[UUID]:
        return [ANN, BOB, CAT] if number % 2 else [CAT, BOB, ANN]

    async def one(number: int) -> None:
        shares = [Share(RecipientKind.CREATOR, 100 + number, teacher) for teacher in teachers(number)]
        charge, refund_id, order_id = f"ch_{number}", uuid4(), uuid4()
        sold = postings.sale(order_id=order_id, gross=3 * (100 + number), currency="usd", shares=shares)
        await post_alone(ledger_db, sold)
        await post_alone(
            ledger_db,
            postings.unapplied(charge=charge, order_id=order_id, amount=70, currency="usd", reason="duplicate"),
        )
        await post_alone(
            ledger_db,
            postings.unapplied_refund(charge=charge, order_id=order_id, refund_id=refund_id, amount=70, currency="usd"),
        )

    await asyncio.gather(*(one(number) for number in range(50)))
    each = sum(100 + number for number in range(50))
    async with ledger_db.read() as session:
        for teacher in (ANN, BOB, CAT):
            assert await ledger.balance(session, "creator_pending", currency="usd", owner_id=teacher) == -each
        assert await ledger.balance(session, "refunds_payable", currency="usd") == -3500
        assert await ledger.balance(session, "unapplied_payments", currency="usd") == 0
        assert await ledger.balance(session, "stripe_receivable", currency="usd") == 3 * each + 3500
        assert await session.scalar(text("select max(last_seq) from ledger_balances")) == 50
    assert await counts(ledger_db) == (150, 400)
    await assert_sound(ledger_db)


async def test_many_sales_of_one_order_from_many_workers_are_one(ledger_db: Database) -> None:
    posting = sale()
    posted = await asyncio.gather(*(post_alone(ledger_db, posting) for _ in range(20)))
    assert sum(one.created for one in posted) == 1
    assert len({one.id for one in posted}) == 1
    assert await counts(ledger_db) == (1, 3)
    await assert_sound(ledger_db)


async def test_a_posting_outside_the_builders_is_possible_only_on_the_chart(ledger_db: Database) -> None:
    lines = (Line("platform_bank", 5), Line("stripe_balance", -5))
    posting = Posting(key="platform_payout:po_1", kind=PostingKind.SETTLE, currency="usd", lines=lines)
    assert (await post_alone(ledger_db, posting)).created
    async with ledger_db.read() as session:
        assert await ledger.balance(session, "platform_bank", currency="usd") == 5
