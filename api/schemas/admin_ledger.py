"""The ledger as administrators see it."""

from datetime import datetime
from uuid import UUID

from api.schemas.base import ResponseModel


class EntryRead(ResponseModel):
    """One line: a debit is positive, a credit negative, in minor units. `balance_after` where a balance is kept."""

    account: str
    owner_id: UUID | None
    currency: str
    amount: int
    balance_after: int | None


class TransactionRead(ResponseModel):
    """One posting. Its entries sum to zero."""

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
    memo: dict[str, str]
    entries: list[EntryRead]


class OrderLedgerRead(ResponseModel):
    """Every posting of an order as booked, first to last, and what the entries sum to per currency (zero)."""

    order_id: UUID
    transactions: list[TransactionRead]
    sums: dict[str, int]
