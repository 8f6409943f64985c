"""Orders, their lines, and what they hold while somebody pays: seats and the claim on a course."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, MinorUnits, Timestamped


class Order(Identified, Timestamped, Base):
    """A basket somebody undertook to pay. Amounts are minor units and frozen when it is placed."""

    __tablename__ = "orders"

    student_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    status: Mapped[str] = mapped_column(server_default="pending")
    currency: Mapped[str] = mapped_column(CHAR(3))
    list_total: Mapped[MinorUnits]
    discount_total: Mapped[MinorUnits] = mapped_column(server_default="0")
    tax_total: Mapped[MinorUnits] = mapped_column(server_default="0")
    gross: Mapped[MinorUnits]
    basket: Mapped[str]
    """The sorted course ids: two clicks on the same basket meet the same open order."""
    idempotency_key: Mapped[str]
    checkout_n: Mapped[int] = mapped_column(server_default="1")
    """The number of the Checkout Session; part of its idempotency key at Stripe."""
    expires_at: Mapped[datetime]
    """When the current Checkout Session ends."""
    closed_reason: Mapped[str | None]
    """Why an order ended without being paid."""
    paid_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(
            "status in ('pending', 'paying', 'paid', 'expired', 'canceled')",
            name="status",
        ),
        CheckConstraint(
            "gross >= 0 and gross = list_total - discount_total + tax_total",
            name="gross",
        ),
        UniqueConstraint("student_id", "idempotency_key"),
        Index(
            "uq_orders_open_basket",
            "student_id",
            "basket",
            unique=True,
            postgresql_where=text("status in ('pending', 'paying')"),
        ),
        Index("ix_orders_student_id_created_at", "student_id", "created_at"),
    )


class OrderKey(Base):
    """An Idempotency-Key that met a basket already open: it answers with that order, as the order's own key does."""

    __tablename__ = "order_keys"

    student_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))

    __table_args__ = (Index("ix_order_keys_order_id", "order_id"),)


class OrderLine(Identified, Base):
    """One course of an order at its frozen price. `platform_bps` is the platform's share in basis points."""

    __tablename__ = "order_lines"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    position: Mapped[int]
    course_id: Mapped[UUID] = mapped_column(ForeignKey("courses.id"))
    creator_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    title: Mapped[str]
    list_amount: Mapped[MinorUnits]
    discount: Mapped[MinorUnits] = mapped_column(server_default="0")
    net: Mapped[MinorUnits]
    platform_bps: Mapped[int]
    granted_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("net >= 0 and net = list_amount - discount and discount >= 0", name="net"),
        CheckConstraint("platform_bps between 0 and 10000", name="platform_bps"),
        UniqueConstraint("order_id", "course_id"),
    )


class CheckoutSession(Base):
    """A Checkout Session at Stripe for the `n`-th attempt at an order; known from Stripe's answer or from a webhook."""

    __tablename__ = "checkout_sessions"

    stripe_session: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    n: Mapped[int]
    url: Mapped[str]
    expires_at: Mapped[datetime]
    failed_at: Mapped[datetime | None]
    """When Stripe was seen to say that its payment failed after it was completed, as bank debits may."""

    __table_args__ = (Index("ix_checkout_sessions_order_id_n", "order_id", "n"),)


class SeatHold(Base):
    """A seat kept for an open order. It counts against the capacity until `expires_at`."""

    __tablename__ = "seat_holds"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    course_id: Mapped[UUID] = mapped_column(ForeignKey("courses.id"), primary_key=True)
    expires_at: Mapped[datetime]

    __table_args__ = (Index("ix_seat_holds_course_id_expires_at", "course_id", "expires_at"),)


class CourseClaim(Identified, Base):
    """One student's claim on one course: `claimed` by an open order, `owned` once granted. At most one is live."""

    __tablename__ = "course_claims"

    student_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    course_id: Mapped[UUID] = mapped_column(ForeignKey("courses.id"))
    order_id: Mapped[UUID | None] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"))
    state: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("state in ('claimed', 'owned', 'released')", name="state"),
        Index(
            "uq_course_claims_live",
            "student_id",
            "course_id",
            unique=True,
            postgresql_where=text("state in ('claimed', 'owned')"),
        ),
        Index("ix_course_claims_order_id", "order_id"),
    )
