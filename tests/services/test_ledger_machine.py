"""The ledger machine on the pure model and on PostgreSQL, and the broken variants it must catch on each."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from domain import ledger as postings
from domain import pricing
from domain.ledger import Line, Posting, Settlement, SignRule
from services import earnings, ledger
from services.ledger_checks import CHECKS, find_breaks
from tests.services.books import Books
from tests.services.ledger_machine import LedgerMachine, PureMachine, refuses
from tests.services.ledger_world import Balances, Sold

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WITHOUT_PAYMENTS = [check for check in CHECKS if check != "payment_totals"]


def run(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


def survives(machine: type[RuleBasedStateMachine], *, examples: int, steps: int) -> bool:
    """Whether the machine finds nothing wrong. That PostgreSQL is away or a statement wrong is no finding."""
    try:
        run(machine, examples=examples, steps=steps)
    except (OperationalError, ProgrammingError):
        raise
    except Exception:
        return False
    return True


class PostgresLedger:
    """The real thing: `services.ledger` in committed transactions of the application's role."""

    def __init__(self, books: Books) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._app = self._run(self._stack.enter_async_context(books.connected(pool_size=1)))
        self._owner = self._run(self._stack.enter_async_context(books.connected(as_owner=True, pool_size=1)))

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._loop.close()

    def post(self, posting: Posting, sold: Sold = ()) -> bool:
        return bool(self._run(self._post(posting, sold)))

    async def _post(self, posting: Posting, sold: Sold) -> bool:
        async with self._app.transaction() as session:
            posted = await ledger.post(session, posting, actor="test", occurred_at=NOW)
            for line_id, shares in sold:
                await earnings.record_sale(session, line_id, shares, currency=posting.currency, release_at=NOW)
        return posted.created

    def balances(self) -> Balances:
        rows = self._query(
            "select a.code, a.owner_id, a.currency, sum(e.amount)::bigint from ledger_entries e"
            " join ledger_accounts a on a.id = e.account_id group by a.id"
        )
        return {(code, owner_id, currency): amount for code, owner_id, currency, amount in rows}

    def problems(self) -> list[str]:
        return []

    def breaks(self) -> list[str]:
        async def find() -> list[str]:
            async with self._app.read() as session:
                return [str(one) for one in await find_breaks(session, WITHOUT_PAYMENTS)]

        return list(self._run(find()))

    def fingerprint(self) -> object:
        return self._query(
            "select (select count(*) from ledger_transactions), (select count(*) from ledger_entries),"
            " (select sum(hashtext(e::text)) from ledger_entries e),"
            " (select sum(hashtext(b::text)) from ledger_balances b), (select sum(share) from earnings)"
        )

    def tamper(self, statement: str) -> None:
        async def change() -> None:
            async with self._owner.transaction() as session:
                await session.execute(text(statement))

        self._run(change())

    def _query(self, statement: str) -> list[Any]:
        async def fetch() -> list[Any]:
            async with self._app.read() as session:
                return list(await session.execute(text(statement)))

        return list(self._run(fetch()))


def machine_on(postgres: PostgresLedger) -> type[RuleBasedStateMachine]:
    class PostgresMachine(LedgerMachine):
        open_ledger = staticmethod(lambda: postgres)

        @rule()
        def change_what_is_booked(self) -> None:
            if self.commands:
                for statement in ("update ledger_entries set amount = -amount", "delete from ledger_transactions"):
                    refuses(DBAPIError, partial(postgres.tamper, statement), "append-only")

        def teardown(self) -> None:
            self.change_what_is_booked()  # chance may never have chosen the rule
            assert postgres.breaks() == []

    return PostgresMachine


@contextmanager
def opened(books: Books) -> Iterator[PostgresLedger]:
    postgres = PostgresLedger(books)
    try:
        yield postgres
    finally:
        postgres.close()


def test_the_pure_model_keeps_every_invariant() -> None:
    run(PureMachine, examples=80, steps=40)


@pytest.fixture
def postgres(books: Books) -> Iterator[PostgresLedger]:
    with opened(books) as opened_ledger:
        yield opened_ledger


def test_postgresql_keeps_every_invariant(postgres: PostgresLedger) -> None:
    run(machine_on(postgres), examples=10, steps=20)


# Broken variants of the rules. Most are in balance, so that only comparing with what happened can tell.

Builder = Callable[..., Any]


def every(original: Builder, change: Callable[[Posting], Posting]) -> Builder:
    """What the builder makes, one posting or several, each changed."""

    def mutant(**arguments: Any) -> Posting | tuple[Posting, ...]:
        made: Posting | tuple[Posting, ...] = original(**arguments)
        return change(made) if isinstance(made, Posting) else tuple(map(change, made))

    return mutant


def without_the_fee(original: Builder) -> Builder:
    def mutant(*, settlement: Settlement, **arguments: Any) -> tuple[Posting, ...]:
        free = dataclasses.replace(settlement, fee=0, net=settlement.gross)
        return cast(tuple[Posting, ...], original(settlement=free, **arguments))

    return mutant


def relined(change: Callable[[list[Line]], list[Line]]) -> Callable[[Builder], Builder]:
    """The same posting with other lines; lines that end up on one account are added together."""

    def mutate(original: Builder) -> Builder:
        def changed(posting: Posting) -> Posting:
            totals: dict[tuple[str, UUID | None], int] = {}
            for line in change(list(posting.lines)):
                totals[line.account, line.owner_id] = totals.get((line.account, line.owner_id), 0) + line.amount
            lines = tuple(Line(account, amount, owner) for (account, owner), amount in totals.items() if amount)
            return dataclasses.replace(posting, lines=lines)

        return every(original, changed)

    return mutate


def moved(source: str, target: str) -> Callable[[Builder], Builder]:
    """Books on `target` what belongs on `source`."""
    return relined(
        lambda lines: [Line(target, one.amount) if one.account == source else one for one in lines],
    )


def negated(lines: list[Line]) -> list[Line]:
    return [dataclasses.replace(one, amount=-one.amount) for one in lines]


def keyed(key: Callable[[Posting], str]) -> Callable[[Builder], Builder]:
    def mutate(original: Builder) -> Builder:
        return every(original, lambda posting: dataclasses.replace(posting, key=key(posting)))

    return mutate


def first_creator_takes_the_fee(lines: list[Line]) -> list[Line]:
    creators = [one for one in lines if one.account == "creator_pending"]
    if not creators:
        return lines
    owner = creators[0].owner_id
    return [Line("creator_pending", one.amount, owner) if one.account == "platform_fees" else one for one in lines]


def floors_and_the_rest_to_the_last(_original: Builder) -> Builder:
    def mutant(total: int, weights: Sequence[int]) -> list[int]:
        parts = [total * weight // sum(weights) for weight in weights]
        return [*parts[:-1], total - sum(parts[:-1])]

    return mutant


def floors_and_the_rest_lost(_original: Builder) -> Builder:
    return lambda total, weights: [total * weight // sum(weights) for weight in weights]


def ties_to_the_last(original: Builder) -> Builder:
    return lambda total, weights: original(total, weights[::-1])[::-1]


def hash_of(*names: str) -> Callable[[Builder], Builder]:
    """A request hash that forgets all but these fields."""
    return lambda _original: property(  # type: ignore[return-value]
        lambda posting: repr([getattr(posting, name) for name in names]).encode()
    )


PURE_MUTANTS: dict[str, tuple[object, str, Callable[[Builder], Builder]]] = {
    "a sale with debit and credit swapped": (postings, "sale", relined(negated)),
    "a sale that books the tax as income": (postings, "sale", moved("tax_payable", "platform_fees")),
    "a sale straight into the balance": (postings, "sale", moved("stripe_receivable", "stripe_balance")),
    "a sale whose fee goes to a creator": (postings, "sale", relined(first_creator_takes_the_fee)),
    "a sale booked under a new key each time": (postings, "sale", keyed(lambda _: f"sale:{uuid4()}")),
    "a settlement without the fee": (postings, "settle", moved("processor_fees", "stripe_balance")),
    "a settlement with debit and credit swapped": (postings, "settle", relined(negated)),
    "a settlement keyed by order": (postings, "settle", keyed(lambda posting: f"settle:{posting.order_id}")),
    "stray money kept as income": (postings, "unapplied", moved("unapplied_payments", "platform_fees")),
    "stray money keyed by order": (postings, "unapplied", keyed(lambda posting: f"unapplied:{posting.order_id}")),
    "stray money returned before it is taken": (
        postings,
        "unapplied_refund",
        moved("refunds_payable", "stripe_balance"),
    ),
    "a refund that forgets its fee": (postings, "refund_settle", without_the_fee),
    "a refund keyed by order": (postings, "refund_settle", keyed(lambda posting: f"refund:{posting.order_id}")),
    "a bounced refund owed by nobody": (postings, "refund_bounce", moved("refunds_payable", "platform_fees")),
    "floors, the rest to the last": (pricing, "allocate", floors_and_the_rest_to_the_last),
    "floors, the rest lost": (pricing, "allocate", floors_and_the_rest_lost),
    "ties to the last": (pricing, "allocate", ties_to_the_last),
    "no hash check": (Posting, "request_hash", hash_of()),
    "a hash without amounts": (Posting, "request_hash", hash_of("kind", "currency", "order_id")),
    "a hash that depends on the order of lines": (Posting, "request_hash", hash_of("kind", "lines", "order_id")),
    "no check of the lines": (postings, "_problem", lambda _: lambda _posting: None),
    "no sign rules": (SignRule, "allows", lambda _: lambda _rule, _balance: True),
}


@pytest.mark.parametrize("mutant", PURE_MUTANTS)
def test_the_pure_machine_catches(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, mutate = PURE_MUTANTS[mutant]
    monkeypatch.setattr(owner, name, mutate(getattr(owner, name)))
    assert not survives(PureMachine, examples=100, steps=40)


def forgetting_the_hash(_original: Builder) -> Builder:
    async def mutant(session: AsyncSession, posting: Posting) -> ledger.PostedTransaction:
        found = await session.execute(
            text("select id from ledger_transactions where posting_key = :key"), {"key": posting.key}
        )
        return ledger.PostedTransaction(found.scalar_one(), posting.key, created=False)

    return mutant


def claiming_to_be_new(original: Builder) -> Builder:
    async def mutant(session: AsyncSession, posting: Posting) -> ledger.PostedTransaction:
        found: ledger.PostedTransaction = await original(session, posting)
        return dataclasses.replace(found, created=True)

    return mutant


def suffixing_the_key(original: Builder) -> Builder:
    async def mutant(session: AsyncSession, posting: Posting, *more: Any) -> Any:
        return await original(session, dataclasses.replace(posting, key=f"{posting.key}:{uuid4().hex}"), *more)

    return mutant


def with_sql(right: str, wrong: str) -> Callable[[Any], Any]:
    def mutate(original: Any) -> Any:
        assert right in original.text
        return text(original.text.replace(right, wrong))

    return mutate


def forgetting_the_owner(original: Builder) -> Builder:
    async def mutant(session: AsyncSession, currency: str, refs: Any) -> Any:
        found = await original(session, currency, refs)
        by_code = {code: account_id for (code, _), account_id in sorted(found.items(), key=str)}
        return {(code, owner_id): by_code[code] for code, owner_id in found}

    return mutant


SERVICE_MUTANTS: dict[str, tuple[str, Callable[[Builder], Builder]]] = {
    "no comparison of hashes": ("_posted_before", forgetting_the_hash),
    "a repeated posting that claims to be new": ("_posted_before", claiming_to_be_new),
    "a key made unique": ("_insert_transaction", suffixing_the_key),
    "kept balances that never move": (
        "_INSERT_ENTRIES",
        with_sql("set balance = b.balance + l.amount", "set balance = 0"),
    ),
    "balances moved the wrong way": (
        "_INSERT_ENTRIES",
        with_sql("set balance = b.balance +", "set balance = b.balance -"),
    ),
    "a chain of wrong balances": ("_INSERT_ENTRIES", with_sql("m.last_seq, m.balance", "m.last_seq, m.balance + 1")),
    "numbers that skip": ("_INSERT_ENTRIES", with_sql("b.last_seq + 1", "b.last_seq + 2")),
    "sign rules nobody asks": ("_INSERT_ENTRIES", with_sql("b.balance + l.amount <= 0", "true")),
    "refused lines left out in silence": (
        "_INSERT_ENTRIES",
        with_sql("where not l.guarded or m.account_id is not null", ""),
    ),
    "one account for all creators": ("_ensure_accounts", forgetting_the_owner),
}


@pytest.mark.parametrize("mutant", SERVICE_MUTANTS)
def test_the_machine_on_postgresql_catches(
    mutant: str, monkeypatch: pytest.MonkeyPatch, postgres: PostgresLedger
) -> None:
    name, mutate = SERVICE_MUTANTS[mutant]
    monkeypatch.setattr(ledger, name, mutate(getattr(ledger, name)))
    assert not survives(machine_on(postgres), examples=20, steps=15)


SCHEMA_MUTANTS = {
    "entries that can be changed": "alter table ledger_entries disable trigger no_change",
    "transactions that can be removed": "alter table ledger_transactions disable trigger no_change",
}


@pytest.mark.parametrize("mutant", SCHEMA_MUTANTS)
def test_the_machine_catches_a_schema_with(mutant: str, postgres: PostgresLedger) -> None:
    postgres.tamper(SCHEMA_MUTANTS[mutant])
    assert not survives(machine_on(postgres), examples=20, steps=15)
