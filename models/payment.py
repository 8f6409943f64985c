"""What Stripe told us about money, and what we decided to do with it."""

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.ledger import Settlement
from models.base import Base, Identified, MinorUnits, Timestamped


class Payment(Identified, Timestamped, Base):
    """One captured charge of an order. `unapplied_amount` of it buys nothing and goes back to the student."""

    __tablename__ = "payments"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"))
    stripe_session: Mapped[str]
    stripe_payment_intent: Mapped[str] = mapped_column(unique=True)
    stripe_charge: Mapped[str] = mapped_column(unique=True)
    amount: Mapped[MinorUnits]
    currency: Mapped[str] = mapped_column(CHAR(3))
    livemode: Mapped[bool]
    disposition: Mapped[str | None]
    unapplied_amount: Mapped[MinorUnits] = mapped_column(server_default="0")
    unapplied_reason: Mapped[str | None]
    stripe_balance_txn: Mapped[str | None] = mapped_column(unique=True)
    settled_currency: Mapped[str | None] = mapped_column(CHAR(3))
    settled_amount: Mapped[MinorUnits | None]
    fee: Mapped[MinorUnits | None]
    net: Mapped[MinorUnits | None]
    """The balance transaction, in `settled_currency`: `net = settled_amount - fee`."""
    available_on: Mapped[datetime | None]
    booked_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]

    @property
    def settlement(self) -> Settlement | None:
        """Stripe's balance transaction, once it is known; its columns are filled together."""
        known = (self.settled_currency, self.settled_amount, self.fee, self.net, self.available_on)
        return Settlement(self.stripe_balance_txn, *cast(Any, known)) if self.stripe_balance_txn else None

    __table_args__ = (
        CheckConstraint("amount > 0 and unapplied_amount between 0 and amount", name="amount"),
        CheckConstraint("disposition in ('applied', 'unapplied')", name="disposition"),
        Index("ix_payments_order_id", "order_id"),
    )


class Refund(Identified, Timestamped, Base):
    """Money on its way back. `attempt` is part of the idempotency key and grows only after a definitive refusal."""

    __tablename__ = "refunds"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"))
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    amount: Mapped[MinorUnits]
    currency: Mapped[str] = mapped_column(CHAR(3))
    source: Mapped[str]
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="requested")
    attempt: Mapped[int] = mapped_column(server_default="1")
    attempted_at: Mapped[datetime | None]
    stripe_refund: Mapped[str | None] = mapped_column(unique=True)
    stripe_balance_txn: Mapped[str | None] = mapped_column(unique=True)
    failure: Mapped[str | None]
    settled_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("source in ('student', 'creator', 'admin', 'stripe', 'duplicate')", name="source"),
        CheckConstraint(
            "status in ('requested', 'reserved', 'submitted', 'pending', 'succeeded', 'failed', 'canceled', "
            "'needs_manual')",
            name="status",
        ),
        Index(
            "uq_refunds_duplicate",
            "payment_id",
            unique=True,
            postgresql_where=text("source = 'duplicate'"),
        ),
        Index("ix_refunds_order_id", "order_id"),
    )


class StripeEvent(Base):
    """A verified webhook, kept before it is acted upon. Its payload is evidence, never the source of state."""

    __tablename__ = "stripe_events"

    id: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str | None]
    type: Mapped[str]
    object_id: Mapped[str]
    process_kind: Mapped[str | None]
    """Which process it concerns (`order`, `refund`); null for types nobody listens to."""
    process_subject: Mapped[UUID | None]
    created: Mapped[datetime]
    payload: Mapped[dict[str, Any]]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_stripe_events_undispatched",
            "received_at",
            postgresql_where=text("dispatched_at is null and process_kind is not null"),
        ),
    )
