"""Posting to the double-entry ledger, and reading it. Amounts are minor units, debit > 0, credit < 0."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import and_, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger import CHART, Posting, PostingConflict, SignViolation
from models.ledger import LedgerAccount, LedgerBalance, LedgerEntry, LedgerTransaction

AccountRef = tuple[str, UUID | None]
"""An account's code in the chart and its owner, within one currency."""


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


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """A posting as booked."""

    id: UUID
    posting_key: str
    kind: str
    currency: str
    occurred_at: datetime
    posted_at: datetime
    stripe_balance_txn: str | None
    stripe_object: str | None
    workflow_id: str | None
    actor: str
    memo: Mapping[str, str]
    entries: tuple[EntryRecord, ...]


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
    refs = [(line.account, line.owner_id) for line in posting.lines]
    accounts = await _ensure_accounts(session, posting.currency, refs)
    chain = await _move_balances(session, posting, accounts)
    entries = []
    for number, line in enumerate(posting.lines, start=1):
        account_id = accounts[line.account, line.owner_id]
        account_seq, balance_after = chain.get(account_id, (None, None))
        entries.append(
            {
                "transaction_id": transaction_id,
                "line": number,
                "account_id": account_id,
                "currency": posting.currency,
                "amount": line.amount,
                "account_seq": account_seq,
                "balance_after": balance_after,
            }
        )
    await session.execute(insert(LedgerEntry), entries)
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


async def entries_of_order(session: AsyncSession, order_id: UUID) -> list[TransactionRecord]:
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
    return [_record(transaction, entries[transaction.id]) for transaction in transactions]


async def _insert_transaction(
    session: AsyncSession, posting: Posting, actor: str, occurred_at: datetime, workflow_id: str | None
) -> UUID | None:
    """The new transaction's id, or None when its key or its balance transaction is taken."""
    statement = (
        insert_or_skip(LedgerTransaction)
        .values(
            posting_key=posting.key,
            request_hash=posting.request_hash,
            kind=posting.kind,
            currency=posting.currency,
            occurred_at=occurred_at,
            order_id=posting.order_id,
            refund_id=posting.refund_id,
            dispute_id=posting.dispute_id,
            payout_id=posting.payout_id,
            stripe_balance_txn=posting.stripe_balance_txn,
            stripe_object=posting.stripe_object,
            workflow_id=workflow_id,
            actor=actor,
            memo=dict(posting.memo),
        )
        .on_conflict_do_nothing()
        .returning(LedgerTransaction.id)
    )
    return await session.scalar(statement)


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
    of_platform = {code for code, owner_id in refs if owner_id is None}
    of_creators = {(code, owner_id) for code, owner_id in refs if owner_id is not None}
    owned = and_(
        LedgerAccount.code.in_({code for code, _ in of_creators}),
        LedgerAccount.owner_id.in_({owner_id for _, owner_id in of_creators}),
    )
    rows = await session.execute(
        select(LedgerAccount.code, LedgerAccount.owner_id, LedgerAccount.id).where(
            LedgerAccount.currency == currency,
            or_(and_(LedgerAccount.code.in_(of_platform), LedgerAccount.owner_id.is_(None)), owned),
        )
    )
    return {(code, owner_id): account_id for code, owner_id, account_id in rows}


async def _move_balances(
    session: AsyncSession, posting: Posting, accounts: Mapping[AccountRef, UUID]
) -> dict[UUID, tuple[int, int]]:
    """Adds the lines to the balances of guarded accounts; returns each one's new sequence number and balance."""
    lines = {accounts[line.account, line.owner_id]: line for line in posting.lines if CHART[line.account].guarded}
    if not lines:
        return {}
    # One order for all transactions: they queue on shared accounts and never deadlock.
    locked = await session.execute(
        select(LedgerBalance.account_id, LedgerBalance.balance, LedgerBalance.last_seq)
        .where(LedgerBalance.account_id.in_(sorted(lines)))
        .order_by(LedgerBalance.account_id)
        .with_for_update()
    )
    chain: dict[UUID, tuple[int, int]] = {}
    for account_id, before, last_seq in locked:
        line = lines[account_id]
        after = before + line.amount
        if not CHART[line.account].sign.allows(after):
            raise SignViolation(f"{posting.key!r} would bring {line.account} to {after} {posting.currency}.")
        chain[account_id] = (last_seq + 1, after)
    await session.execute(
        update(LedgerBalance),
        [{"account_id": account_id, "last_seq": seq, "balance": after} for account_id, (seq, after) in chain.items()],
    )
    return chain


def _record(transaction: LedgerTransaction, entries: Iterable[EntryRecord]) -> TransactionRecord:
    return TransactionRecord(
        id=transaction.id,
        posting_key=transaction.posting_key,
        kind=transaction.kind,
        currency=transaction.currency,
        occurred_at=transaction.occurred_at,
        posted_at=transaction.posted_at,
        stripe_balance_txn=transaction.stripe_balance_txn,
        stripe_object=transaction.stripe_object,
        workflow_id=transaction.workflow_id,
        actor=transaction.actor,
        memo=transaction.memo,
        entries=tuple(entries),
    )
