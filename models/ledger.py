"""The double-entry ledger. Rows of transactions and entries are only ever added; the database refuses anything else.

An amount is minor units of its row's currency, debit > 0, credit < 0. Triggers (created by the migration) see to it
that a transaction has at least two lines that sum to zero when it commits, that nothing joins it afterwards, and that
a kept balance obeys its account's sign rule.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from models.base import Base, Identified, MinorUnits


class XID8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_kwargs: Any) -> str:
        return "xid8"


ischema_names["xid8"] = XID8  # reflection does not know it otherwise


class CurrencyRow(Base):
    """The rows of `domain.money.CURRENCIES`, so that the database refuses any other currency."""

    __tablename__ = "currencies"

    code: Mapped[str] = mapped_column(CHAR(3), primary_key=True)
    exponent: Mapped[int] = mapped_column(SmallInteger)
    charge_quantum: Mapped[int] = mapped_column(server_default="1")
    payout_quantum: Mapped[int] = mapped_column(server_default="1")
    min_charge: Mapped[MinorUnits]
    payout_threshold: Mapped[MinorUnits]
    enabled: Mapped[bool] = mapped_column(server_default=text("false"))


class LedgerAccount(Identified, Base):
    """One account of the chart (`domain.ledger.CHART`) for one owner, or none, in one currency."""

    __tablename__ = "ledger_accounts"

    code: Mapped[str]
    kind: Mapped[str]
    owner_id: Mapped[UUID | None]
    currency: Mapped[str] = mapped_column(CHAR(3), ForeignKey("currencies.code"))
    guarded: Mapped[bool]
    sign_rule: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("kind in ('asset', 'liability', 'income', 'contra_income', 'expense')", name="kind"),
        CheckConstraint("sign_rule in ('debit_only', 'credit_only', 'any')", name="sign_rule"),
        UniqueConstraint("code", "owner_id", "currency", postgresql_nulls_not_distinct=True),
        UniqueConstraint("id", "currency"),
    )


class LedgerTransaction(Identified, Base):
    """One posting. `posting_key` makes it happen once; `txid` closes it when the database transaction ends."""

    __tablename__ = "ledger_transactions"

    seq: Mapped[MinorUnits] = mapped_column(Identity(always=True), unique=True)
    posting_key: Mapped[str] = mapped_column(unique=True)
    request_hash: Mapped[bytes]
    kind: Mapped[str]
    currency: Mapped[str] = mapped_column(CHAR(3), ForeignKey("currencies.code"))
    occurred_at: Mapped[datetime]
    posted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    order_id: Mapped[UUID | None]
    refund_id: Mapped[UUID | None]
    dispute_id: Mapped[UUID | None]
    payout_id: Mapped[UUID | None]
    stripe_balance_txn: Mapped[str | None] = mapped_column(unique=True)
    stripe_object: Mapped[str | None]
    reverses_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_transactions.id"), unique=True)
    workflow_id: Mapped[str | None]
    actor: Mapped[str]
    memo: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    txid: Mapped[int] = mapped_column(XID8(), server_default=func.pg_current_xact_id(), deferred=True)

    __table_args__ = (
        CheckConstraint("length(posting_key) between 1 and 200", name="posting_key"),
        UniqueConstraint("id", "currency"),
        Index("ix_ledger_transactions_order_id", "order_id", postgresql_where=text("order_id is not null")),
    )


class LedgerEntry(Base):
    """One line of a posting. `account_seq` and `balance_after` chain the entries of a guarded account."""

    __tablename__ = "ledger_entries"

    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    account_id: Mapped[UUID]
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount: Mapped[MinorUnits]
    account_seq: Mapped[MinorUnits | None]
    balance_after: Mapped[MinorUnits | None]

    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount"),
        UniqueConstraint("account_id", "account_seq"),
        # With the currency in both keys, a transaction and its accounts cannot be in different currencies.
        ForeignKeyConstraint(
            ["transaction_id", "currency"], ["ledger_transactions.id", "ledger_transactions.currency"]
        ),
        ForeignKeyConstraint(["account_id", "currency"], ["ledger_accounts.id", "ledger_accounts.currency"]),
    )


class LedgerBalance(Base):
    """The kept balance of a guarded account, locked by whoever posts to it."""

    __tablename__ = "ledger_balances"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_accounts.id"), primary_key=True)
    balance: Mapped[MinorUnits] = mapped_column(server_default="0")
    last_seq: Mapped[MinorUnits] = mapped_column(server_default="0")

    __table_args__ = (CheckConstraint("last_seq >= 0", name="last_seq"),)
