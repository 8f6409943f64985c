"""Money: exact arithmetic, prices that can be charged, and an allocation that never loses or invents a unit."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import FieldError, Invalid
from domain.money import CURRENCIES, MAX_CHARGE, Money, allocate, charge_error, decimal_string, validate_price

TOTALS = st.integers(0, 10**12)
WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any)


@given(TOTALS, WEIGHTS)
def test_allocation_sums_to_the_total_and_is_within_one_unit_of_exact(total: int, weights: list[int]) -> None:
    parts = allocate(total, weights)
    whole = sum(weights)
    assert sum(parts) == total
    assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)


@given(TOTALS, WEIGHTS)
def test_equal_weights_differ_by_at_most_one_unit_and_favour_the_first(total: int, weights: list[int]) -> None:
    parts = allocate(total, weights)
    for left in range(len(weights)):
        for right in range(left + 1, len(weights)):
            if weights[left] == weights[right]:
                assert parts[left] - parts[right] in (0, 1)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any), st.data())
def test_taking_from_what_is_left_never_goes_below_zero_and_ends_at_zero(
    shares: list[int], data: st.DataObject
) -> None:
    left = list(shares)
    while sum(left):
        taken = allocate(data.draw(st.integers(max(1, sum(left) // 5), sum(left))), left)
        left = [before - part for before, part in zip(left, taken, strict=True)]
        assert min(left) >= 0
    assert left == [0] * len(shares)


def test_largest_remainder_is_not_house_monotone_so_partials_use_what_is_left() -> None:
    assert allocate(10, [6, 6, 2]) == [4, 4, 2]
    assert allocate(11, [6, 6, 2]) == [5, 5, 1]


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, [1, -1]), (1, []), (0, [0, 0])])
def test_allocation_refuses_negative_and_empty_input(total: int, weights: list[int]) -> None:
    with pytest.raises(ValueError, match=r"negative|positive"):
        allocate(total, weights)


@given(st.sampled_from(sorted(CURRENCIES)), st.integers(-(10**15), 10**15))
def test_the_decimal_string_reads_back_to_the_same_amount(currency: str, amount: int) -> None:
    text = decimal_string(amount, currency)
    whole, _, fraction = text.partition(".")
    assert len(fraction) == CURRENCIES[currency].exponent
    assert int(whole + fraction) == amount


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(4249, "usd"), "42.49 USD"),
        (Money(-5, "eur"), "-0.05 EUR"),
        (Money(4980, "jpy"), "4980 JPY"),
        (Money(12340, "kwd"), "12.340 KWD"),
        (Money(0, "gbp"), "0.00 GBP"),
    ],
)
def test_money_is_written_with_the_decimals_of_its_currency(money: Money, text: str) -> None:
    assert str(money) == text


def test_arithmetic_stays_in_one_currency() -> None:
    assert Money(1, "usd") + Money(2, "usd") == Money(3, "usd")
    assert Money(1, "usd") - Money(2, "usd") == -Money(1, "usd")
    assert Money(1, "usd") < Money(2, "usd") <= Money(2, "usd")
    assert Money(1, "usd") != Money(1, "eur")
    assert not Money(0, "usd")
    assert Money(10, "usd").allocate([2, 1]) == [Money(7, "usd"), Money(3, "usd")]
    for mix in (Money.__add__, Money.__sub__, Money.__lt__):
        with pytest.raises(ValueError, match="cannot mix usd and eur"):
            mix(Money(1, "usd"), Money(1, "eur"))


@pytest.mark.parametrize("amount", [1.0, True, "1", None])
def test_an_amount_is_nothing_but_an_int(amount: Any) -> None:
    with pytest.raises(TypeError, match="int of minor units"):
        Money(amount, "usd")


def test_an_unknown_currency_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown currency 'xxx'"):
        Money(1, "xxx")


@pytest.mark.parametrize(
    ("exponent", "codes"),
    [
        (2, "aud brl cad chf czk dkk hkd huf inr isk mxn nok nzd pln ron sek sgd thb try zar"),
        (0, "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"),
        (3, "bhd jod kwd omr tnd"),
    ],
)
def test_whatever_stripe_settles_in_is_known(exponent: int, codes: str) -> None:
    assert {code: CURRENCIES[code].exponent for code in codes.split()} == dict.fromkeys(codes.split(), exponent)


def test_enabled_currencies_are_the_four_that_are_fully_documented() -> None:
    assert {code for code, row in CURRENCIES.items() if row.enabled} == {"usd", "eur", "gbp", "jpy"}


@pytest.mark.parametrize(
    ("amount", "currency"), [(None, None), (50, "usd"), (30, "gbp"), (50, "jpy"), (MAX_CHARGE, "eur")]
)
def test_a_chargeable_price_or_none_is_accepted(amount: int | None, currency: str | None) -> None:
    validate_price(amount, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "field", "code"),
    [
        (None, "usd", "price.amount", "missing"),
        (100, None, "price.currency", "missing"),
        (100, "xxx", "price.currency", "currency_not_supported"),
        (100, "USD", "price.currency", "currency_not_supported"),
        (12340, "kwd", "price.currency", "currency_not_supported"),
        (49, "usd", "price.amount", "amount_not_chargeable"),
        (29, "gbp", "price.amount", "amount_not_chargeable"),
        (0, "eur", "price.amount", "amount_not_chargeable"),
        (-100, "eur", "price.amount", "amount_not_chargeable"),
        (MAX_CHARGE + 1, "jpy", "price.amount", "amount_not_chargeable"),
    ],
)
def test_a_price_that_cannot_be_charged_names_its_field(
    amount: int | None, currency: str | None, field: str, code: str
) -> None:
    with pytest.raises(Invalid) as refused:
        validate_price(amount, currency)
    [error] = refused.value.errors
    assert (error.field, error.code) == (field, code)


def test_a_refused_price_says_the_limit() -> None:
    with pytest.raises(Invalid) as refused:
        validate_price(10, "usd")
    assert refused.value.errors == (
        FieldError("price.amount", "The least that can be charged is 0.50 USD.", "amount_not_chargeable"),
    )


def test_amounts_off_the_quantum_of_the_currency_are_refused() -> None:
    assert charge_error(12345, CURRENCIES["kwd"]) == "The amount must be a multiple of 0.010 KWD."
    assert charge_error(12340, CURRENCIES["kwd"]) is None
