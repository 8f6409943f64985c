"""The invariants of the ledger as SQL: what is wrong in the database now, if anything.

Each check is a query of what breaks it, as (subject, detail). An empty answer from all of them is the proof that the
books are right; they read whole tables.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True, slots=True)
class Break:
    """`check` does not hold for `subject`."""

    check: str
    subject: str
    detail: str


_SUMS: Final = """
    with sums as (
      select a.code, a.owner_id, a.currency, a.sign_rule, a.guarded, a.id,
             a.code || coalesce(':' || a.owner_id, '') || ' ' || a.currency as name,
             coalesce(sum(e.amount), 0) as balance, count(e.amount) as entries,
             count(e.account_seq) as numbered, coalesce(max(e.account_seq), 0) as last_seq
        from ledger_accounts a left join ledger_entries e on e.account_id = a.id
       group by a.id)
"""
"""What each account's entries add up to; every check below may read from `sums`."""

CHECKS: Final[Mapping[str, str]] = {
    "transactions_balance": """
        select t.posting_key, format('%s lines, sum %s', count(e.line), coalesce(sum(e.amount), 0))
          from ledger_transactions t left join ledger_entries e on e.transaction_id = t.id
         group by t.id
        having count(e.line) < 2 or sum(e.amount) <> 0 or bool_or(e.amount = 0 or e.currency <> t.currency)
    """,
    "currencies_balance": """
        select currency, format('sum %s', sum(amount)) from ledger_entries group by currency having sum(amount) <> 0
    """,
    "kept_balances": """
        select name, format('kept %s at %s, entries sum to %s at %s', b.balance, b.last_seq, s.balance, s.entries)
          from sums s left join ledger_balances b on b.account_id = s.id
         where s.guarded and (b.balance, b.last_seq, s.numbered, s.last_seq)
                             is distinct from (s.balance, s.entries, s.entries, s.entries)
            or not s.guarded and (b.account_id is not null or s.numbered > 0)
    """,
    "balance_chains": """
        select account_id::text, format('after %s the balance is %s, not %s', account_seq, running, balance_after)
          from (select account_id, account_seq, balance_after,
                       sum(amount) over (partition by account_id order by account_seq) as running
                  from ledger_entries where account_seq is not null) chain
         where balance_after is distinct from running
    """,
    "sign_rules": """
        select name, format('%s against %s', balance, sign_rule) from sums
         where sign_rule = 'debit_only' and balance < 0 or sign_rule = 'credit_only' and balance > 0
    """,
    "earnings_totals": """
        select name, format('ledger %s, earnings %s', sum(booked), sum(owed)) from (
          select case when code like 'platform%' then 'platform ' || currency else name end as name,
                 balance as booked, 0 as owed
            from sums
           where code in ('creator_pending', 'tax_payable', 'platform_fees', 'platform_fee_reversals')
          union all
          select case recipient_kind when 'creator' then 'creator_pending:' || creator_id
                      when 'tax' then 'tax_payable' else 'platform' end || ' ' || currency,
                 0, taken + held - share
            from earnings where released_at is null) totals
         group by name having sum(booked) <> sum(owed)
    """,
    "payment_totals": """
        select name || ' ' || currency, format('ledger %s, payments %s', sum(booked), sum(owed)) from (
          select case code when 'stripe_receivable' then 'unsettled' else 'owed to students' end as name,
                 currency, balance as booked, 0 as owed
            from sums where code in ('stripe_receivable', 'unapplied_payments', 'refunds_payable')
          union all
          select 'unsettled', currency, 0, amount from payments where booked_at is not null and settled_at is null
          union all
          select 'owed to students', currency, 0, -unapplied_amount from payments where booked_at is not null
          union all
          select 'owed to students', currency, 0, amount from refunds where settled_at is not null) totals
         group by name, currency having sum(booked) <> sum(owed)
    """,
}
"""By name: every transaction has two lines or more, sums to zero and is in one currency; so does every currency;
kept balances, their numbering and their chain follow from the entries; no account is on its wrong side; creators', tax
and platform accounts equal what the earnings say is left, receivables and stray money what the payments say."""


async def find_breaks(session: AsyncSession, checks: Iterable[str] = tuple(CHECKS)) -> list[Break]:
    """What is wrong, by check; the empty list when every invariant holds."""
    found = []
    for check in checks:
        rows = await session.execute(text(_SUMS + CHECKS[check]))
        found += [Break(check, subject, detail) for subject, detail in rows]
    return found
