"""The ledger on PostgreSQL: posted once, in balance, append-only, safe under concurrency."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from domain import ledger as postings
from domain.ledger import Line, Posting, PostingConflict, PostingKind, SignViolation
from domain.money import CURRENCIES
from domain.pricing import RecipientKind, Share, split
from services import ledger
from services.ledger import EntryRecord, PostedTransaction
from services.ledger_checks import CHECKS, find_breaks
from tests.services.books import CREATORS, Books

ANN, BOB, CAT, _ = CREATORS
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WITHOUT_SUBLEDGERS = [check for check in CHECKS if check not in ("earnings_totals", "payment_totals")]


def sale(order_id: UUID | None = None, gross: int = 4249, creator: UUID = ANN, currency: str = "usd") -> Posting:
    shares = split(gross, platform_bps=3000, creators={creator: 1})
    return postings.sale(order_id=order_id or uuid4(), gross=gross, currency=currency, shares=shares)


def settle(charge: str = "ch_1", gross: int = 4249, balance_txn: str = "txn_1") -> Posting:
    return postings.settle(
        charge=charge,
        order_id=uuid4(),
        gross=gross,
        fee=153,
        net=gross - 153,
        currency="usd",
        stripe_balance_txn=balance_txn,
    )


async def post(session: AsyncSession, posting: Posting) -> PostedTransaction:
    return await ledger.post(session, posting, actor="test", occurred_at=NOW, workflow_id="order-1")


async def post_alone(db: Database, posting: Posting) -> PostedTransaction:
    async with db.transaction() as session:
        return await post(session, posting)


async def counts(db: Database) -> tuple[int, int]:
    async with db.read() as session:
        row = await session.execute(
            text("select (select count(*) from ledger_transactions), (select count(*) from ledger_entries)")
        )
        transactions, entries = row.one()
        return transactions, entries


async def assert_sound(db: Database) -> None:
    async with db.read() as session:
        assert await find_breaks(session, WITHOUT_SUBLEDGERS) == []


async def test_a_sale_and_its_settlement_are_booked_and_read_back(ledger_db: Database) -> None:
    order_id = uuid4()
    async with ledger_db.transaction() as session:
        sold = await post(session, sale(order_id))
        await post(session, sale(gross=1000))
    async with ledger_db.read() as session:
        [booked] = await ledger.entries_of_order(session, order_id)
        assert (booked.id, booked.posting_key, booked.kind) == (sold.id, f"sale:{order_id}", "sale")
        assert (booked.currency, booked.occurred_at, booked.actor) == ("usd", NOW, "test")
        assert (booked.workflow_id, booked.stripe_balance_txn, booked.memo) == ("order-1", None, {})
        assert booked.entries == (
            EntryRecord("stripe_receivable", None, "usd", 4249, None),
            EntryRecord("creator_pending", ANN, "usd", -2974, -2974),
            EntryRecord("platform_fees", None, "usd", -1275, None),
        )
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
    refund = postings.refund_settle(
        refund_id=uuid4(),
        order_id=uuid4(),
        stripe_refund="re_1",
        amount=1,
        currency="usd",
        stripe_balance_txn="txn_9",
    )
    with pytest.raises(SignViolation, match="would bring refunds_payable to 1 usd"):
        await post_alone(ledger_db, refund)
    assert await counts(ledger_db) == (0, 0)


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


# What the database itself refuses, whoever asks and however the statement came to be.

HEADER = (
    "insert into ledger_transactions (id, posting_key, request_hash, kind, currency, occurred_at, actor)"
    " values ('{id}', 'key-{id}', '', 'sale', 'usd', now(), 'test')"
)
ENTRY = (
    "insert into ledger_entries (transaction_id, line, account_id, currency, amount)"
    " select '{id}', {line}, id, '{currency}', {amount} from ledger_accounts"
    " where code = '{code}' and currency = '{of}' and owner_id is null"
)


def entry(transaction_id: UUID, line: int, code: str, amount: int, currency: str = "usd", of: str = "usd") -> str:
    return ENTRY.format(id=transaction_id, line=line, code=code, amount=amount, currency=currency, of=of)


def pair(transaction_id: UUID, first_line: int = 1) -> list[str]:
    return [
        entry(transaction_id, first_line, "stripe_balance", 5),
        entry(transaction_id, first_line + 1, "processor_fees", -5),
    ]


async def run(db: Database, statements: list[str]) -> None:
    async with db.transaction() as session:
        for statement in statements:
            await session.execute(text(statement))


async def refused(db: Database, statements: list[str], message: str) -> None:
    before = await counts(db)
    with pytest.raises(DBAPIError, match=message):
        await run(db, statements)
    assert await counts(db) == before


@pytest.fixture(scope="module")
async def owner_db(shared_books: Books) -> AsyncIterator[Database]:
    async with shared_books.connected(as_owner=True) as database:
        yield database


@pytest.fixture(scope="module")
async def app_db(shared_books: Books) -> AsyncIterator[Database]:
    async with shared_books.connected() as database:
        yield database


@pytest.fixture(scope="module")
async def booked(app_db: Database) -> PostedTransaction:
    """The last of three committed postings; the accounts used below exist."""
    await post_alone(app_db, sale(currency="eur"))
    await post_alone(app_db, sale())
    return await post_alone(app_db, settle())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "unbalanced: 0 lines, sum 0"),
        ([("stripe_balance", 5)], "unbalanced: 1 lines, sum 5"),
        ([("stripe_balance", 5), ("processor_fees", -4)], "unbalanced: 2 lines, sum 1"),
        ([("stripe_balance", 0), ("processor_fees", 0)], "ck_ledger_entries_amount"),
    ],
)
async def test_a_transaction_out_of_balance_is_refused(
    app_db: Database, booked: PostedTransaction, lines: list[tuple[str, int]], message: str
) -> None:
    new = uuid4()
    statements = [HEADER.format(id=new), *(entry(new, line, *of) for line, of in enumerate(lines, start=1))]
    await refused(app_db, statements, message)


async def test_a_balanced_transaction_is_accepted_also_in_parts(app_db: Database, booked: PostedTransaction) -> None:
    new = uuid4()
    transactions, entries = await counts(app_db)
    await run(app_db, ["savepoint one", HEADER.format(id=new), "release one", "savepoint two", *pair(new)])
    assert await counts(app_db) == (transactions + 1, entries + 2)


async def test_two_currencies_in_one_transaction_are_refused(app_db: Database, booked: PostedTransaction) -> None:
    new = uuid4()
    header, first = HEADER.format(id=new), entry(new, 1, "stripe_receivable", 5)
    euro_line = entry(new, 2, "platform_fees", -5, currency="eur", of="eur")
    await refused(app_db, [header, first, euro_line], "fk_ledger_entries_transaction_id_currency")
    euro_account = entry(new, 2, "platform_fees", -5, of="eur")
    await refused(app_db, [header, first, euro_account], "fk_ledger_entries_account_id_currency")


async def test_nothing_joins_a_committed_transaction_not_even_in_balance(
    app_db: Database, booked: PostedTransaction
) -> None:
    await refused(app_db, pair(booked.id, first_line=8), "is closed")


async def test_a_temporary_table_of_the_same_name_does_not_hide_the_books(
    app_db: Database, booked: PostedTransaction
) -> None:
    new = uuid4()
    hidden = [
        f"create temporary table {table} (like public.{table}) on commit drop"
        for table in ("ledger_entries", "ledger_accounts")
    ]
    statements = [HEADER.format(id=new), entry(new, 1, "stripe_balance", 5), *hidden, *_forged(new)]
    await refused(app_db, statements, "unbalanced: 1 lines, sum 5")
    forged = [
        hidden[1],
        "insert into ledger_accounts select * from public.ledger_accounts",
        "update ledger_accounts set sign_rule = 'any'",
    ]
    await refused(app_db, [*forged, "update public.ledger_balances set balance = 1"], "against rule credit_only")


def _forged(transaction_id: UUID) -> list[str]:
    row = (
        "insert into ledger_entries (transaction_id, line, account_id, currency, amount)"
        " values ('{id}', {line}, uuidv7(), 'usd', {amount})"
    )
    return [row.format(id=transaction_id, line=line, amount=amount) for line, amount in ((1, 5), (2, -5))]


async def test_an_unknown_currency_is_refused(app_db: Database) -> None:
    statement = HEADER.format(id=uuid4()).replace("usd", "xxx")
    await refused(app_db, [statement], "fk_ledger_transactions_currency")


@pytest.mark.parametrize("table", ["ledger_transactions", "ledger_entries"])
@pytest.mark.parametrize("change", ["update {} set currency = 'usd'", "delete from {}", "truncate {} cascade"])
async def test_even_the_owner_cannot_change_what_is_booked(
    owner_db: Database, booked: PostedTransaction, table: str, change: str
) -> None:
    await refused(owner_db, [change.format(table)], "ledger is append-only")


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger_transactions set memo = '{}'",
        "delete from ledger_transactions",
        "truncate ledger_transactions cascade",
        "update ledger_entries set amount = 1",
        "delete from ledger_entries",
        "truncate ledger_entries",
        "update ledger_accounts set sign_rule = 'any'",
        "delete from ledger_accounts",
        "delete from ledger_balances",
        "truncate ledger_balances",
        "delete from earnings",
        "insert into currencies values ('xxx', 2, 1, 1, 1, 1, true)",
        "update currencies set enabled = true",
        "alter table ledger_entries disable trigger no_change",
    ],
)
async def test_the_application_has_no_right_to_change_the_books(
    app_db: Database, booked: PostedTransaction, statement: str
) -> None:
    await refused(app_db, [statement], r"permission denied|must be owner")


async def test_a_kept_balance_on_the_wrong_side_is_refused_by_the_database(
    app_db: Database, booked: PostedTransaction
) -> None:
    await refused(app_db, ["update ledger_balances set balance = 1"], "creator_pending would go to 1 against rule")


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


# The checks find what is wrong. Only the owner, with the triggers off, can break the books.


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        (
            "update ledger_entries set amount = amount + 1 where amount = 153",
            {"transactions_balance", "currencies_balance"},
        ),
        ("delete from ledger_entries", {"transactions_balance", "kept_balances"}),
        ("update ledger_balances set balance = balance - 1", {"kept_balances"}),
        ("update ledger_balances set last_seq = last_seq + 1", {"kept_balances"}),
        ("delete from ledger_balances", {"kept_balances"}),
        ("update ledger_entries set account_seq = 7 where account_seq = 1", {"kept_balances"}),
        ("update ledger_entries set balance_after = 0 where account_seq = 1", {"balance_chains"}),
        (
            "update ledger_entries set amount = -amount",
            {"kept_balances", "balance_chains", "sign_rules"},
        ),
        ("update ledger_accounts set sign_rule = 'debit_only' where code = 'platform_fees'", {"sign_rules"}),
    ],
)
async def test_each_damage_to_the_books_is_found(
    owner_db: Database, booked: PostedTransaction, damage: str, broken: set[str]
) -> None:
    await assert_sound(owner_db)
    tables = ("ledger_entries", "ledger_transactions", "ledger_balances")
    found: set[str] = set()
    with suppress(LookupError):
        async with owner_db.transaction() as session:
            for statement in [*(f"alter table {table} disable trigger user" for table in tables), damage]:
                await session.execute(text(statement))
            found |= {one.check for one in await find_breaks(session, WITHOUT_SUBLEDGERS)}
            raise LookupError
    assert found == broken
    await assert_sound(owner_db)


async def test_a_posting_outside_the_builders_is_possible_only_on_the_chart(ledger_db: Database) -> None:
    lines = (Line("platform_bank", 5), Line("stripe_balance", -5))
    posting = Posting(key="platform_payout:po_1", kind=PostingKind.SETTLE, currency="usd", lines=lines)
    assert (await post_alone(ledger_db, posting)).created
    async with ledger_db.read() as session:
        assert await ledger.balance(session, "platform_bank", currency="usd") == 5
