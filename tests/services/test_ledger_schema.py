"""What the database refuses whoever asks, and what the checks find when it was made not to refuse."""

from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.db import Database
from services.ledger import PostedTransaction
from services.ledger_checks import find_breaks
from tests.services.books import WITHOUT_SUBLEDGERS, Books, assert_sound, counts, post_alone, sale, settle

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
