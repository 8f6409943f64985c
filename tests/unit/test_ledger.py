"""Postings: what each event books, and what can never be booked."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ledger
from domain.ledger import CHART, AccountKind, InvalidPosting, Line, Posting, PostingKind, Settlement, SignRule
from domain.pricing import RecipientKind, Share, percent_discount, price_line

ORDER, REFUND, ANN, BOB, CAT = (UUID(int=number) for number in range(1, 6))


def amounts(posting: Posting) -> dict[tuple[str, UUID | None], int]:
    return {(line.account, line.owner_id): line.amount for line in posting.lines}


def add(*postings: Posting) -> dict[tuple[str, UUID | None], int]:
    """Balances after these postings, without the accounts that are back at zero."""
    balances: dict[tuple[str, UUID | None], int] = {}
    for posting in postings:
        for account, amount in amounts(posting).items():
            balances[account] = balances.get(account, 0) + amount
    return {account: balance for account, balance in balances.items() if balance}


def stray() -> Posting:
    return ledger.unapplied(charge="ch_1", order_id=ORDER, amount=4249, currency="usd", reason="duplicate")


def moved(gross: int, fee: int = 0, currency: str = "usd", txn: str = "txn_1") -> Settlement:
    return Settlement(txn, currency, gross, fee, gross - fee, datetime(2026, 1, 2, tzinfo=UTC))


def settled(gross: int = 4249, fee: int = 153, currency: str = "usd") -> Posting:
    [posting] = ledger.settle(
        charge="ch_1", order_id=ORDER, gross=gross, currency=currency, settlement=moved(gross, fee, currency)
    )
    return posting


def test_a_sale_with_a_coupon_and_its_settlement() -> None:
    price = price_line(4999, discount=percent_discount(4999, 1500), platform_bps=3000, creators={ANN: 1})
    sale = ledger.sale(order_id=ORDER, gross=price.gross, currency="usd", shares=price.shares)
    assert (sale.key, sale.kind, sale.order_id) == (f"sale:{ORDER}", PostingKind.SALE, ORDER)
    assert amounts(sale) == {
        ("stripe_receivable", None): 4249,
        ("creator_pending", ANN): -2974,
        ("platform_fees", None): -1275,
    }
    settle = settled()
    assert (settle.key, settle.stripe_balance_txn, settle.stripe_object) == ("settle:ch_1", "txn_1", "ch_1")
    assert amounts(settle) == {
        ("stripe_balance", None): 4096,
        ("processor_fees", None): 153,
        ("stripe_receivable", None): -4249,
    }
    books = add(sale, settle)
    assert ("stripe_receivable", None) not in books
    assert -books["platform_fees", None] - books["processor_fees", None] == 1122


def test_a_free_course_is_not_booked() -> None:
    price = price_line(4999, discount=4999, platform_bps=3000, creators={ANN: 1})
    with pytest.raises(InvalidPosting, match="must be a positive number"):
        ledger.sale(order_id=ORDER, gross=price.gross, currency="usd", shares=price.shares)


def test_a_yen_sale_with_tax_and_three_teachers() -> None:
    price = price_line(4980, tax=498, platform_bps=3000, creators={ANN: 1, BOB: 1, CAT: 1})
    books = add(
        ledger.sale(order_id=ORDER, gross=price.gross, currency="jpy", shares=price.shares),
        settled(gross=5478, fee=197, currency="jpy"),
    )
    assert books == {
        ("creator_pending", ANN): -1162,
        ("creator_pending", BOB): -1162,
        ("creator_pending", CAT): -1162,
        ("platform_fees", None): -1494,
        ("tax_payable", None): -498,
        ("stripe_balance", None): 5281,
        ("processor_fees", None): 197,
    }


def test_several_lines_of_one_creator_become_one_entry() -> None:
    lines = [price_line(100, platform_bps=3000, creators={ANN: 1}) for _ in range(3)]
    shares = [share for line in lines for share in line.shares]
    sale = ledger.sale(order_id=ORDER, gross=300, currency="usd", shares=shares)
    assert sale.lines == (
        Line("stripe_receivable", 300),
        Line("creator_pending", -210, ANN),
        Line("platform_fees", -90),
    )


def test_stray_money_is_returned_and_only_the_fee_is_lost() -> None:
    returning = ledger.unapplied_refund(charge="ch_1", order_id=ORDER, refund_id=REFUND, amount=4249, currency="usd")
    [refund] = ledger.refund_settle(
        refund_id=REFUND,
        order_id=ORDER,
        stripe_refund="re_1",
        amount=4249,
        currency="usd",
        settlement=moved(-4249, txn="txn_2"),
    )
    assert [stray().key, returning.key, refund.key] == [
        "unapplied:ch_1",
        "unapplied:ch_1:refund",
        f"refund:{REFUND}:settle",
    ]
    assert add(stray(), settled()) == {
        ("unapplied_payments", None): -4249,
        ("stripe_balance", None): 4096,
        ("processor_fees", None): 153,
    }
    assert add(stray(), settled(), returning, refund) == {("stripe_balance", None): -153, ("processor_fees", None): 153}


def test_a_bounced_refund_is_owed_again() -> None:
    common: dict[str, Any] = {"refund_id": REFUND, "order_id": ORDER, "amount": 500, "currency": "usd"}
    [refund] = ledger.refund_settle(**common, stripe_refund="re_1", settlement=moved(-500, 7, txn="txn_2"))
    bounce = ledger.refund_bounce(**common, stripe_refund="re_1", stripe_balance_txn="txn_3")
    assert amounts(refund)["stripe_balance", None] == -507
    assert add(refund, bounce) == {("processor_fees", None): 7, ("stripe_balance", None): -7}


def test_a_converted_charge_is_booked_in_both_currencies() -> None:
    charged, converted = ledger.settle(
        charge="ch_1", order_id=ORDER, gross=1000, currency="gbp", settlement=moved(1250, 66)
    )
    assert (charged.key, charged.currency) == ("settle:ch_1", "gbp")
    assert amounts(charged) == {("fx_clearing", None): 1000, ("stripe_receivable", None): -1000}
    assert (converted.key, converted.currency) == ("settle:ch_1:converted", "usd")
    assert amounts(converted) == {
        ("stripe_balance", None): 1184,
        ("processor_fees", None): 66,
        ("fx_clearing", None): -1250,
    }


def test_a_refund_taken_in_another_currency_is_booked_in_both() -> None:
    owed, taken = ledger.refund_settle(
        refund_id=REFUND,
        order_id=ORDER,
        stripe_refund="re_1",
        amount=1000,
        currency="gbp",
        settlement=moved(-1260, txn="txn_2"),
    )
    assert (owed.key, owed.currency, owed.stripe_balance_txn) == (f"refund:{REFUND}:settle", "gbp", None)
    assert amounts(owed) == {("refunds_payable", None): 1000, ("fx_clearing", None): -1000}
    assert (taken.key, taken.currency) == (f"refund:{REFUND}:settle:converted", "usd")
    assert amounts(taken) == {("fx_clearing", None): 1260, ("stripe_balance", None): -1260}


def test_figures_of_stripe_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(InvalidPosting, match="out of balance by -1"):
        ledger.settle(
            charge="ch_1", order_id=ORDER, gross=4249, currency="usd", settlement=replace(moved(4249, 153), net=4095)
        )


def test_shares_must_sum_to_the_gross_and_none_be_negative() -> None:
    shares = [Share(RecipientKind.CREATOR, 70, ANN), Share(RecipientKind.PLATFORM, 29)]
    with pytest.raises(InvalidPosting, match="out of balance by 1"):
        ledger.sale(order_id=ORDER, gross=100, currency="usd", shares=shares)
    shares = [Share(RecipientKind.CREATOR, 101, ANN), Share(RecipientKind.PLATFORM, -1)]
    with pytest.raises(InvalidPosting, match="negative"):
        ledger.sale(order_id=ORDER, gross=100, currency="usd", shares=shares)


CASH = Line("stripe_balance", 5)
FEE = Line("processor_fees", -5)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ((), "has 0 lines"),
        ((CASH,), "has 1 lines"),
        ((CASH, Line("processor_fees", -4)), "out of balance by 1"),
        ((CASH, FEE, Line("tax_payable", 0)), "has the amount 0 on tax_payable"),
        ((CASH, Line("processor_fees", -5.0)), r"has the amount -5.0 on processor_fees"),  # type: ignore[arg-type]
        ((CASH, Line("processor_fees", -(2**63))), "has the amount -9223372036854775808"),
        ((CASH, Line("petty_cash", -5)), "uses the unknown account 'petty_cash'"),
        ((CASH, Line("creator_pending", -5)), "needs an owner on creator_pending"),
        ((CASH, Line("processor_fees", -5, ANN)), "has a needless owner on processor_fees"),
        ((CASH, Line("stripe_balance", -5)), "has two lines on one account"),
    ],
)
def test_a_posting_that_cannot_be_made_says_why(lines: tuple[Line, ...], problem: str) -> None:
    with pytest.raises(InvalidPosting, match=problem):
        Posting(key="test", kind=PostingKind.SETTLE, currency="usd", lines=lines)


@pytest.mark.parametrize(("key", "currency"), [("", "usd"), ("k" * 201, "usd"), ("test", "xxx")])
def test_key_and_currency_are_checked(key: str, currency: str) -> None:
    with pytest.raises(InvalidPosting, match=r"characters|unknown currency"):
        Posting(key=key, kind=PostingKind.SETTLE, currency=currency, lines=(CASH, FEE))


def test_the_hash_tells_postings_apart_but_not_the_order_of_lines_or_the_memo() -> None:
    def posting(**changes: Any) -> Posting:
        return Posting(**{"key": "k", "kind": PostingKind.SETTLE, "currency": "usd", "lines": (CASH, FEE), **changes})

    base = posting().request_hash
    assert posting(lines=(FEE, CASH), memo={"reason": "late"}).request_hash == base
    changes: list[dict[str, Any]] = [
        {"kind": PostingKind.UNAPPLIED},
        {"currency": "eur"},
        {"lines": (Line("stripe_balance", 6), Line("processor_fees", -6))},
        {"lines": (CASH, Line("platform_bank", -5))},
        {"order_id": ORDER},
        {"refund_id": ORDER},
        {"dispute_id": ORDER},
        {"payout_id": ORDER},
        {"stripe_balance_txn": "x"},
        {"stripe_object": "x"},
    ]
    hashes = {posting(**change).request_hash for change in changes}
    assert len(hashes) == len(changes)
    assert base not in hashes


@given(
    st.permutations([Share(RecipientKind.CREATOR, amount, owner) for amount, owner in [(5, ANN), (7, BOB), (1, ANN)]])
)
def test_the_hash_of_a_sale_does_not_depend_on_the_order_of_shares(shares: list[Share]) -> None:
    sale = ledger.sale(order_id=ORDER, gross=13, currency="usd", shares=shares)
    assert sale.request_hash == ledger.sale(order_id=ORDER, gross=13, currency="usd", shares=shares[::-1]).request_hash


def test_owned_accounts_are_guarded_and_income_is_never_locked() -> None:
    assert {code for code, account in CHART.items() if account.guarded} == {
        "connect_balance",
        "payouts_in_transit",
        "refunds_payable",
        "creator_pending",
        "creator_available",
        "creator_dispute_hold",
        "creator_payout_reserved",
    }
    assert all(account.guarded for account in CHART.values() if account.owned)
    hot = {AccountKind.INCOME, AccountKind.EXPENSE, AccountKind.CONTRA_INCOME}
    assert not any(account.guarded for account in CHART.values() if account.kind in hot)


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [(SignRule.ANY, (-1, 0, 1)), (SignRule.DEBIT_ONLY, (0, 1)), (SignRule.CREDIT_ONLY, (-1, 0))],
)
def test_sign_rules(rule: SignRule, allowed: tuple[int, ...]) -> None:
    assert tuple(balance for balance in (-1, 0, 1) if rule.allows(balance)) == allowed
