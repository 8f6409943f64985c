"""Posting to the double-entry ledger, and reading it. Amounts are minor units, debit > 0, credit < 0."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, func, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import CHART, Posting, PostingConflict, SignViolation
from models.ledger import LedgerAccount, LedgerBalance, LedgerEntry, LedgerTransaction

AccountRef = tuple[str, UUID | None]
"""An account's code in the chart and its owner, within one currency."""

# The hot path is plain SQL: building the same statements from expressions takes longer than PostgreSQL needs for them.

_INSERT_TRANSACTION = text(
    """
    insert into ledger_transactions (posting_key, request_hash, kind, currency, occurred_at, order_id, refund_id,
                                     dispute_id, payout_id, stripe_balance_txn, stripe_object, workflow_id, actor, memo)
    values (:posting_key, :request_hash, :kind, :currency, :occurred_at, :order_id, :refund_id, :dispute_id, :payout_id,
            :stripe_balance_txn, :stripe_object, :workflow_id, :actor, :memo)
    on conflict do nothing
    returning id
    """
).bindparams(bindparam("memo", type_=JSONB()))

_FIND_ACCOUNTS = text(
    """
    select code, owner_id, id from ledger_accounts
     where code = any(:of_platform) and owner_id is null and currency = :currency
    union all
    select code, owner_id, id from ledger_accounts
     where code = any(:of_creators) and owner_id = any(:creators) and currency = :currency
    """
)

# Kept balances are locked in one order by everybody, so that postings queue on shared accounts and never deadlock.
# A balance that would break its sign rule does not move, and its line is not inserted.
_INSERT_ENTRIES = text(
    """
    with lines as (
      select line.number, line.amount, a.id as account_id, a.currency, a.guarded, a.sign_rule
        from unnest(cast(:accounts as uuid[]), cast(:amounts as bigint[]))
             with ordinality as line (account_id, amount, number)
        join ledger_accounts a on a.id = line.account_id),
    locked as (
      select account_id from ledger_balances
       where account_id = any(cast(:accounts as uuid[])) order by account_id for update),
    moved as (
      update ledger_balances b set balance = b.balance + l.amount, last_seq = b.last_seq + 1
        from lines l join locked using (account_id)
       where b.account_id = l.account_id
         and case l.sign_rule when 'debit_only' then b.balance + l.amount >= 0
                              when 'credit_only' then b.balance + l.amount <= 0 else true end
      returning b.account_id, b.last_seq, b.balance)
    insert into ledger_entries (transaction_id, line, account_id, currency, amount, account_seq, balance_after)
    select :transaction_id, l.number, l.account_id, l.currency, l.amount, m.last_seq, m.balance
      from lines l left join moved m using (account_id)
     where not l.guarded or m.account_id is not null
    returning line
    """
)


@dataclass(frozen=True, slots=True)
class PostedTransaction:
    """A posting in the ledger; `created` is False when an earlier call had made it already."""

    id: UUID
    posting_key: str
    created: bool


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One line of a posting as booked; `balance_after` is known for guarded accounts only."""

    account: str
    owner_id: UUID | None
    currency: str
    amount: int
    balance_after: int | None


async def post(
    session: AsyncSession, posting: Posting, *, actor: str, occurred_at: datetime, workflow_id: str | None = None
) -> PostedTransaction:
    """Books `posting` once, in the caller's transaction; a repeated call finds what the first one made.

    `actor` is who or what caused it, `occurred_at` when it happened in the world. Raises `PostingConflict` when the
    key, or Stripe's balance transaction, was booked before with other content, and `SignViolation` when a guarded
    account does not hold enough.
    """
    transaction_id = await _insert_transaction(session, posting, actor, occurred_at, workflow_id)
    if transaction_id is None:
        return await _posted_before(session, posting)
    accounts = await _ensure_accounts(
        session, posting.currency, [(line.account, line.owner_id) for line in posting.lines]
    )
    inserted = await session.scalars(
        _INSERT_ENTRIES,
        {
            "transaction_id": transaction_id,
            "accounts": [accounts[line.account, line.owner_id] for line in posting.lines],
            "amounts": [line.amount for line in posting.lines],
        },
    )
    refused = set(range(1, len(posting.lines) + 1)).difference(inserted)
    if refused:
        codes = ", ".join(posting.lines[number - 1].account for number in sorted(refused))
        raise SignViolation(f"{posting.key!r} would bring {codes} to the wrong side.")
    return PostedTransaction(transaction_id, posting.key, created=True)


async def account(session: AsyncSession, code: str, *, currency: str, owner_id: UUID | None = None) -> UUID:
    """The id of the account, which is opened when it does not exist."""
    return (await _ensure_accounts(session, currency, [(code, owner_id)]))[code, owner_id]


async def balance(session: AsyncSession, code: str, *, currency: str, owner_id: UUID | None = None) -> int:
    """The account's balance, debit > 0; zero for an account nothing was posted to."""
    where = (
        LedgerAccount.code == code,
        LedgerAccount.currency == currency,
        LedgerAccount.owner_id.is_(None) if owner_id is None else LedgerAccount.owner_id == owner_id,
    )
    if CHART[code].guarded:
        kept = select(LedgerBalance.balance).join(LedgerAccount, LedgerAccount.id == LedgerBalance.account_id)
        return (await session.scalar(kept.where(*where))) or 0
    summed = select(func.sum(LedgerEntry.amount)).join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
    return int((await session.scalar(summed.where(*where))) or 0)


async def entries_of_order(session: AsyncSession, order_id: UUID) -> list[tuple[LedgerTransaction, list[EntryRecord]]]:
    """Every posting of the order with its lines, in the order they were booked."""
    transactions = (
        await session.scalars(
            select(LedgerTransaction).where(LedgerTransaction.order_id == order_id).order_by(LedgerTransaction.seq)
        )
    ).all()
    rows = await session.execute(
        select(
            LedgerEntry.transaction_id,
            LedgerAccount.code,
            LedgerAccount.owner_id,
            LedgerEntry.currency,
            LedgerEntry.amount,
            LedgerEntry.balance_after,
        )
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .join(LedgerTransaction, LedgerTransaction.id == LedgerEntry.transaction_id)
        .where(LedgerTransaction.order_id == order_id)
        .order_by(LedgerEntry.transaction_id, LedgerEntry.line)
    )
    entries: dict[UUID, list[EntryRecord]] = {}
    for transaction_id, code, owner_id, currency, amount, balance_after in rows:
        record = EntryRecord(code, owner_id, currency, amount, balance_after)
        entries.setdefault(transaction_id, []).append(record)
    return [(transaction, entries[transaction.id]) for transaction in transactions]


async def _insert_transaction(
    session: AsyncSession, posting: Posting, actor: str, occurred_at: datetime, workflow_id: str | None
) -> UUID | None:
    """The new transaction's id, or None when its key or its balance transaction is taken."""
    transaction_id: UUID | None = await session.scalar(
        _INSERT_TRANSACTION,
        {
            "posting_key": posting.key,
            "request_hash": posting.request_hash,
            "kind": posting.kind,
            "currency": posting.currency,
            "occurred_at": occurred_at,
            "order_id": posting.order_id,
            "refund_id": posting.refund_id,
            "dispute_id": posting.dispute_id,
            "payout_id": posting.payout_id,
            "stripe_balance_txn": posting.stripe_balance_txn,
            "stripe_object": posting.stripe_object,
            "workflow_id": workflow_id,
            "actor": actor,
            "memo": dict(posting.memo),
        },
    )
    return transaction_id


async def _posted_before(session: AsyncSession, posting: Posting) -> PostedTransaction:
    statement = select(LedgerTransaction.id, LedgerTransaction.request_hash)
    earlier = (await session.execute(statement.where(LedgerTransaction.posting_key == posting.key))).one_or_none()
    if earlier is None:
        raise PostingConflict(f"{posting.stripe_balance_txn} is booked under another key than {posting.key!r}.")
    transaction_id, request_hash = earlier
    if request_hash != posting.request_hash:
        raise PostingConflict(f"{posting.key!r} is booked with other content.")
    return PostedTransaction(transaction_id, posting.key, created=False)


async def _ensure_accounts(session: AsyncSession, currency: str, refs: Iterable[AccountRef]) -> dict[AccountRef, UUID]:
    wanted = set(refs)
    found = await _find_accounts(session, currency, wanted)
    missing = sorted(wanted - found.keys(), key=lambda ref: (ref[0], str(ref[1])))
    if not missing:
        return found
    # In sorted order, so that two transactions opening the same accounts wait for each other instead of deadlocking.
    rows = [
        {
            "code": code,
            "kind": CHART[code].kind,
            "owner_id": owner_id,
            "currency": currency,
            "guarded": CHART[code].guarded,
            "sign_rule": CHART[code].sign,
        }
        for code, owner_id in missing
    ]
    opened = await session.execute(
        insert_or_skip(LedgerAccount)
        .values(rows)
        .on_conflict_do_nothing()
        .returning(LedgerAccount.id, LedgerAccount.guarded)
    )
    kept = [{"account_id": account_id} for account_id, guarded in opened if guarded]
    if kept:
        await session.execute(insert(LedgerBalance), kept)
    return await _find_accounts(session, currency, wanted)


async def _find_accounts(session: AsyncSession, currency: str, refs: Iterable[AccountRef]) -> dict[AccountRef, UUID]:
    rows = await session.execute(
        _FIND_ACCOUNTS,
        {
            "currency": currency,
            "of_platform": [code for code, owner_id in refs if owner_id is None],
            "of_creators": [code for code, owner_id in refs if owner_id is not None],
            "creators": [owner_id for _, owner_id in refs if owner_id is not None],
        },
    )
    return {(code, owner_id): account_id for code, owner_id, account_id in rows}
