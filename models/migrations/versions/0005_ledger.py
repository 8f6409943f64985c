"""The ledger: currencies, accounts, append-only transactions and entries, kept balances; and earnings."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = (
    """
    create table currencies (
      code char(3) constraint pk_currencies primary key,
      exponent smallint not null,
      charge_quantum integer not null default 1,
      payout_quantum integer not null default 1,
      min_charge bigint not null,
      payout_threshold bigint not null,
      enabled boolean not null default false)
    """,
    """
    create table ledger_accounts (
      id uuid default uuidv7() constraint pk_ledger_accounts primary key,
      code varchar not null,
      kind varchar not null constraint ck_ledger_accounts_kind
        check (kind in ('asset', 'liability', 'income', 'contra_income', 'expense')),
      owner_id uuid,
      currency char(3) not null constraint fk_ledger_accounts_currency references currencies (code),
      guarded boolean not null,
      sign_rule varchar not null constraint ck_ledger_accounts_sign_rule
        check (sign_rule in ('debit_only', 'credit_only', 'any')),
      created_at timestamptz not null default now(),
      constraint uq_ledger_accounts_code_owner_id_currency unique nulls not distinct (code, owner_id, currency),
      constraint uq_ledger_accounts_id_currency unique (id, currency))
    """,
    """
    create table ledger_transactions (
      id uuid default uuidv7() constraint pk_ledger_transactions primary key,
      seq bigint generated always as identity constraint uq_ledger_transactions_seq unique,
      posting_key varchar not null constraint uq_ledger_transactions_posting_key unique
        constraint ck_ledger_transactions_posting_key check (length(posting_key) between 1 and 200),
      request_hash bytea not null,
      kind varchar not null,
      currency char(3) not null constraint fk_ledger_transactions_currency references currencies (code),
      occurred_at timestamptz not null,
      posted_at timestamptz not null default now(),
      order_id uuid,
      refund_id uuid,
      dispute_id uuid,
      payout_id uuid,
      stripe_balance_txn varchar constraint uq_ledger_transactions_stripe_balance_txn unique,
      stripe_object varchar,
      reverses_id uuid constraint uq_ledger_transactions_reverses_id unique
        constraint fk_ledger_transactions_reverses_id references ledger_transactions (id),
      workflow_id varchar,
      actor varchar not null,
      memo jsonb not null default '{}',
      txid xid8 not null default pg_current_xact_id(),
      constraint uq_ledger_transactions_id_currency unique (id, currency))
    """,
    """
    create index ix_ledger_transactions_order_id on ledger_transactions (order_id) where order_id is not null
    """,
    """
    create table ledger_entries (
      transaction_id uuid not null,
      line smallint not null,
      account_id uuid not null,
      currency char(3) not null,
      amount bigint not null constraint ck_ledger_entries_amount check (amount <> 0),
      account_seq bigint,
      balance_after bigint,
      constraint pk_ledger_entries primary key (transaction_id, line),
      constraint uq_ledger_entries_account_id_account_seq unique (account_id, account_seq),
      constraint fk_ledger_entries_transaction_id_currency foreign key (transaction_id, currency)
        references ledger_transactions (id, currency),
      constraint fk_ledger_entries_account_id_currency foreign key (account_id, currency)
        references ledger_accounts (id, currency))
    """,
    """
    create table ledger_balances (
      account_id uuid constraint pk_ledger_balances primary key
        constraint fk_ledger_balances_account_id references ledger_accounts (id),
      balance bigint not null default 0,
      last_seq bigint not null default 0 constraint ck_ledger_balances_last_seq check (last_seq >= 0))
    """,
    """
    create table earnings (
      id uuid default uuidv7() constraint pk_earnings primary key,
      order_line_id uuid not null,
      recipient_kind varchar not null constraint ck_earnings_recipient_kind
        check (recipient_kind in ('creator', 'platform', 'tax')),
      creator_id uuid constraint fk_earnings_creator_id references users (id),
      currency char(3) not null constraint fk_earnings_currency references currencies (code),
      share bigint not null,
      taken bigint not null default 0,
      held bigint not null default 0,
      release_at timestamptz,
      released_at timestamptz,
      constraint ck_earnings_creator check ((recipient_kind = 'creator') = (creator_id is not null)
        and (recipient_kind = 'creator') = (release_at is not null)),
      constraint ck_earnings_left check (0 <= taken and 0 <= held and taken + held <= share),
      constraint uq_earnings_order_line_id_recipient_kind_creator_id
        unique nulls not distinct (order_line_id, recipient_kind, creator_id))
    """,
    """
    create index ix_earnings_release_at on earnings (release_at)
      where release_at is not null and released_at is null
    """,
    "create index ix_earnings_creator_id on earnings (creator_id) where creator_id is not null",
)

_FUNCTIONS = (
    # A transaction carries the id of the database transaction that made it (the top-level one, also under savepoints):
    # when that has ended nothing can join it, not even lines that balance. Tables are named with their schema, or a
    # temporary table of the same name would be looked at instead.
    """
    create function ledger_check_balanced() returns trigger language plpgsql as $$
    declare
      t uuid := coalesce((to_jsonb(new)->>'transaction_id')::uuid, (to_jsonb(new)->>'id')::uuid);
      n integer;
      s numeric;
    begin
      if not exists (select 1 from public.ledger_transactions where id = t and txid = pg_current_xact_id()) then
        raise exception 'ledger transaction % is closed', t using errcode = 'restrict_violation';
      end if;
      select count(*), coalesce(sum(amount), 0) into n, s from public.ledger_entries where transaction_id = t;
      if n < 2 or s <> 0 then
        raise exception 'ledger transaction % unbalanced: % lines, sum %', t, n, s using errcode = 'check_violation';
      end if;
      return null;
    end $$
    """,
    """
    create function ledger_immutable() returns trigger language plpgsql as $$
    begin
      raise exception 'ledger is append-only (%)', tg_table_name using errcode = 'restrict_violation';
    end $$
    """,
    """
    create function ledger_sign() returns trigger language plpgsql as $$
    declare
      r text;
      c text;
    begin
      select sign_rule, code into r, c from public.ledger_accounts where id = new.account_id;
      if (r = 'debit_only' and new.balance < 0) or (r = 'credit_only' and new.balance > 0) then
        raise exception 'account % would go to % against rule %', c, new.balance, r using errcode = 'check_violation';
      end if;
      return new;
    end $$
    """,
)

_TRIGGERS = (
    """
    create constraint trigger balanced_e after insert on ledger_entries deferrable initially deferred
      for each row execute function ledger_check_balanced()
    """,
    """
    create constraint trigger balanced_t after insert on ledger_transactions deferrable initially deferred
      for each row execute function ledger_check_balanced()
    """,
    """
    create trigger no_change before update or delete on ledger_entries
      for each row execute function ledger_immutable()
    """,
    """
    create trigger no_change before update or delete on ledger_transactions
      for each row execute function ledger_immutable()
    """,
    """
    create trigger no_truncate before truncate on ledger_entries
      for each statement execute function ledger_immutable()
    """,
    """
    create trigger no_truncate before truncate on ledger_transactions
      for each statement execute function ledger_immutable()
    """,
    """
    create trigger sign_rule before insert or update on ledger_balances
      for each row execute function ledger_sign()
    """,
)

# Triggers stop everybody; these stop the application before it gets that far. Balances it must be able to update.
_PRIVILEGES = (
    "revoke update, delete, truncate on ledger_transactions, ledger_entries, ledger_accounts from lyceum_app",
    "revoke delete, truncate on ledger_balances, earnings from lyceum_app",
    "revoke insert, update, delete, truncate on currencies from lyceum_app",
)

_ENABLED = {"usd": 50, "eur": 50, "gbp": 30}
_ZERO_DECIMAL = ("bif", "clp", "djf", "gnf", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
_THREE_DECIMAL = ("bhd", "jod", "kwd", "omr", "tnd")
_TWO_DECIMAL = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb fjd fkp gel gip gmd gtq gyd hkd hnl htg idr ils inr jmd kes kgs khr kyd kzt lak lbp
    lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar
    ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd tzs uah uyu uzs wst xcd xcg yer zar
    zmw
"""
_CURRENCIES = (
    # code, exponent, charge_quantum, payout_quantum, min_charge, payout_threshold, enabled
    *((code, 2, 1, 1, least, 5000, True) for code, least in _ENABLED.items()),
    ("jpy", 0, 1, 1, 50, 5000, True),
    *((code, 2, 1, 1, 50, 5000, False) for code in _TWO_DECIMAL.split()),
    *((code, 0, 1, 1, 50, 5000, False) for code in _ZERO_DECIMAL),
    *((code, 3, 10, 10, 500, 50_000, False) for code in _THREE_DECIMAL),
    ("isk", 2, 100, 100, 100, 5000, False),
    ("huf", 2, 1, 100, 17_500, 5000, False),
    ("twd", 2, 1, 100, 50, 5000, False),
    ("ugx", 2, 100, 100, 100, 5000, False),
)


def upgrade() -> None:
    for statement in (*_TABLES, *_FUNCTIONS, *_TRIGGERS, *_PRIVILEGES):
        op.execute(statement)
    columns = ("code", "exponent", "charge_quantum", "payout_quantum", "min_charge", "payout_threshold", "enabled")
    op.bulk_insert(
        sa.table("currencies", *map(sa.column, columns)),
        [dict(zip(columns, row, strict=True)) for row in _CURRENCIES],
    )


def downgrade() -> None:
    for table in (
        "earnings",
        "ledger_balances",
        "ledger_entries",
        "ledger_transactions",
        "ledger_accounts",
        "currencies",
    ):
        op.drop_table(table)
    for function in ("ledger_sign", "ledger_immutable", "ledger_check_balanced"):
        op.execute(f"drop function {function}()")
