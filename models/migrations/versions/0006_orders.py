"""Orders, payments, enrollments, timelines and the operators' projection of processes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _process_actions()
    _processes()
    _stripe_events()
    _timeline_entries()
    _enrollments()
    _orders()
    _order_keys()
    _checkout_sessions()
    _course_claims()
    _order_lines()
    _payments()
    _seat_holds()
    _enrollment_grants()
    _refunds()
    op.create_foreign_key(op.f("fk_earnings_order_line_id"), "earnings", "order_lines", ["order_line_id"], ["id"])
    op.execute("revoke update, delete, truncate on timeline_entries from lyceum_app")


def _process_actions() -> None:
    op.create_table(
        "process_actions",
        sa.Column("process_id", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_process_actions")),
    )
    op.create_index("ix_process_actions_process_id", "process_actions", ["process_id"])


def _processes() -> None:
    op.create_table(
        "processes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("waiting_for", sa.String(), nullable=True),
        sa.Column("waiting_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_step", sa.String(), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("stuck_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_index(
        "ix_processes_stuck_since",
        "processes",
        ["stuck_since"],
        postgresql_where=sa.text("stuck_since is not null"),
    )
    op.create_index("ix_processes_updated_at", "processes", ["updated_at", "id"])


def _stripe_events() -> None:
    op.create_table(
        "stripe_events",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=True),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("object_id", sa.String(), nullable=False),
        sa.Column("process_kind", sa.String(), nullable=True),
        sa.Column("process_subject", sa.Uuid(), nullable=True),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_events")),
    )
    op.create_index(
        "ix_stripe_events_undispatched",
        "stripe_events",
        ["received_at"],
        postgresql_where=sa.text("dispatched_at is null and process_kind is not null"),
    )


def _timeline_entries() -> None:
    op.create_table(
        "timeline_entries",
        sa.Column("seq", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("subject_kind", sa.String(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("audience", sa.String(), server_default="student", nullable=False),
        sa.Column("next_step", sa.String(), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.CheckConstraint("audience in ('student', 'staff')", name=op.f("ck_timeline_entries_audience")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_timeline_entries")),
        sa.UniqueConstraint("seq", name=op.f("uq_timeline_entries_seq")),
        sa.UniqueConstraint(
            "subject_kind", "subject_id", "key", name=op.f("uq_timeline_entries_subject_kind_subject_id_key")
        ),
    )
    op.create_index(
        "ix_timeline_entries_subject_kind_subject_id_seq",
        "timeline_entries",
        ["subject_kind", "subject_id", "seq"],
    )


def _enrollments() -> None:
    op.create_table(
        "enrollments",
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("course_version", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(), server_default="active", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status in ('active', 'completed', 'withdrawn', 'revoked', 'expired')", name=op.f("ck_enrollments_status")
        ),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name=op.f("fk_enrollments_course_id")),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_enrollments_student_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollments")),
    )
    op.create_index("ix_enrollments_course_id_status", "enrollments", ["course_id", "status"])
    op.create_index("ix_enrollments_student_id_created_at", "enrollments", ["student_id", "created_at"])
    op.create_index(
        "uq_enrollments_live",
        "enrollments",
        ["student_id", "course_id"],
        unique=True,
        postgresql_where=sa.text("status in ('active', 'completed')"),
    )


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(), server_default="pending", nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("list_total", sa.BigInteger(), nullable=False),
        sa.Column("discount_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tax_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("gross", sa.BigInteger(), nullable=False),
        sa.Column("basket", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String(), nullable=False),
        sa.Column("checkout_n", sa.Integer(), server_default="1", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_reason", sa.String(), nullable=True),
        sa.Column("paid_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "status in ('pending', 'paying', 'paid', 'expired', 'canceled')", name=op.f("ck_orders_status")
        ),
        sa.CheckConstraint(
            "gross >= 0 and gross = list_total - discount_total + tax_total", name=op.f("ck_orders_gross")
        ),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_orders_student_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("student_id", "idempotency_key", name=op.f("uq_orders_student_id_idempotency_key")),
    )
    op.create_index("ix_orders_student_id_created_at", "orders", ["student_id", "created_at"])
    op.create_index(
        "uq_orders_open_basket",
        "orders",
        ["student_id", "basket"],
        unique=True,
        postgresql_where=sa.text("status in ('pending', 'paying')"),
    )


def _order_keys() -> None:
    op.create_table(
        "order_keys",
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_keys_order_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_order_keys_student_id")),
        sa.PrimaryKeyConstraint("student_id", "key", name=op.f("pk_order_keys")),
    )
    op.create_index("ix_order_keys_order_id", "order_keys", ["order_id"])


def _checkout_sessions() -> None:
    op.create_table(
        "checkout_sessions",
        sa.Column("stripe_session", sa.String(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_checkout_sessions_order_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("stripe_session", name=op.f("pk_checkout_sessions")),
    )
    op.create_index("ix_checkout_sessions_order_id_n", "checkout_sessions", ["order_id", "n"])


def _course_claims() -> None:
    op.create_table(
        "course_claims",
        sa.Column("student_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.CheckConstraint("state in ('claimed', 'owned', 'released')", name=op.f("ck_course_claims_state")),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name=op.f("fk_course_claims_course_id")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_course_claims_order_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["student_id"], ["users.id"], name=op.f("fk_course_claims_student_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_course_claims")),
    )
    op.create_index("ix_course_claims_order_id", "course_claims", ["order_id"])
    op.create_index(
        "uq_course_claims_live",
        "course_claims",
        ["student_id", "course_id"],
        unique=True,
        postgresql_where=sa.text("state in ('claimed', 'owned')"),
    )


def _order_lines() -> None:
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("creator_id", sa.Uuid(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("list_amount", sa.BigInteger(), nullable=False),
        sa.Column("discount", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("net", sa.BigInteger(), nullable=False),
        sa.Column("platform_bps", sa.Integer(), nullable=False),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.CheckConstraint(
            "net >= 0 and net = list_amount - discount and discount >= 0", name=op.f("ck_order_lines_net")
        ),
        sa.CheckConstraint("platform_bps between 0 and 10000", name=op.f("ck_order_lines_platform_bps")),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name=op.f("fk_order_lines_course_id")),
        sa.ForeignKeyConstraint(["creator_id"], ["users.id"], name=op.f("fk_order_lines_creator_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_order_lines_order_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_lines")),
        sa.UniqueConstraint("order_id", "course_id", name=op.f("uq_order_lines_order_id_course_id")),
    )


def _payments() -> None:
    op.create_table(
        "payments",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("stripe_session", sa.String(), nullable=False),
        sa.Column("stripe_payment_intent", sa.String(), nullable=False),
        sa.Column("stripe_charge", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("livemode", sa.Boolean(), nullable=False),
        sa.Column("disposition", sa.String(), nullable=True),
        sa.Column("unapplied_amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("unapplied_reason", sa.String(), nullable=True),
        sa.Column("stripe_balance_txn", sa.String(), nullable=True),
        sa.Column("settled_currency", sa.CHAR(length=3), nullable=True),
        sa.Column("settled_amount", sa.BigInteger(), nullable=True),
        sa.Column("fee", sa.BigInteger(), nullable=True),
        sa.Column("net", sa.BigInteger(), nullable=True),
        sa.Column("available_on", sa.DateTime(timezone=True), nullable=True),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("disposition in ('applied', 'unapplied')", name=op.f("ck_payments_disposition")),
        sa.CheckConstraint("amount > 0 and unapplied_amount between 0 and amount", name=op.f("ck_payments_amount")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_payments_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("stripe_balance_txn", name=op.f("uq_payments_stripe_balance_txn")),
        sa.UniqueConstraint("stripe_charge", name=op.f("uq_payments_stripe_charge")),
        sa.UniqueConstraint("stripe_payment_intent", name=op.f("uq_payments_stripe_payment_intent")),
    )
    op.create_index("ix_payments_order_id", "payments", ["order_id"])


def _seat_holds() -> None:
    op.create_table(
        "seat_holds",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("course_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["course_id"], ["courses.id"], name=op.f("fk_seat_holds_course_id")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_seat_holds_order_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("order_id", "course_id", name=op.f("pk_seat_holds")),
    )
    op.create_index("ix_seat_holds_course_id_expires_at", "seat_holds", ["course_id", "expires_at"])


def _enrollment_grants() -> None:
    op.create_table(
        "enrollment_grants",
        sa.Column("enrollment_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("order_line_id", sa.Uuid(), nullable=True),
        sa.Column("actor_id", sa.Uuid(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_reason", sa.String(), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("source in ('order', 'free', 'admin')", name=op.f("ck_enrollment_grants_source")),
        sa.ForeignKeyConstraint(
            ["enrollment_id"], ["enrollments.id"], name=op.f("fk_enrollment_grants_enrollment_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["order_line_id"], ["order_lines.id"], name=op.f("fk_enrollment_grants_order_line_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrollment_grants")),
        sa.UniqueConstraint("order_line_id", name=op.f("uq_enrollment_grants_order_line_id")),
    )
    op.create_index("ix_enrollment_grants_enrollment_id", "enrollment_grants", ["enrollment_id"])


def _refunds() -> None:
    op.create_table(
        "refunds",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("payment_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.CHAR(length=3), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("status", sa.String(), server_default="requested", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="1", nullable=False),
        sa.Column("attempted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stripe_refund", sa.String(), nullable=True),
        sa.Column("stripe_balance_txn", sa.String(), nullable=True),
        sa.Column("failure", sa.String(), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "source in ('student', 'creator', 'admin', 'stripe', 'duplicate')", name=op.f("ck_refunds_source")
        ),
        sa.CheckConstraint(
            "status in ('requested', 'reserved', 'submitted', 'pending', 'succeeded', 'failed', 'canceled', "
            "'needs_manual')",
            name=op.f("ck_refunds_status"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refunds_amount")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_refunds_order_id")),
        sa.ForeignKeyConstraint(["payment_id"], ["payments.id"], name=op.f("fk_refunds_payment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refunds")),
        sa.UniqueConstraint("stripe_balance_txn", name=op.f("uq_refunds_stripe_balance_txn")),
        sa.UniqueConstraint("stripe_refund", name=op.f("uq_refunds_stripe_refund")),
    )
    op.create_index("ix_refunds_order_id", "refunds", ["order_id"])
    op.create_index(
        "uq_refunds_duplicate", "refunds", ["payment_id"], unique=True, postgresql_where=sa.text("source = 'duplicate'")
    )


def downgrade() -> None:
    op.drop_constraint(op.f("fk_earnings_order_line_id"), "earnings", type_="foreignkey")
    op.drop_table("refunds")
    op.drop_table("enrollment_grants")
    op.drop_table("seat_holds")
    op.drop_table("payments")
    op.drop_table("order_lines")
    op.drop_table("course_claims")
    op.drop_table("checkout_sessions")
    op.drop_table("order_keys")
    op.drop_table("orders")
    op.drop_table("enrollments")
    op.drop_table("timeline_entries")
    op.drop_table("stripe_events")
    op.drop_table("processes")
    op.drop_table("process_actions")
