"""Prices of order lines and who earns them."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.money import allocate
from domain.pricing import (
    RecipientKind,
    Share,
    percent_discount,
    price_line,
    split,
    spread_discount,
    validate_charge,
)

ANN, BOB, CAT = (UUID(int=number) for number in (1, 2, 3))
BPS = st.integers(0, 10_000)
CREATORS = st.dictionaries(st.sampled_from([ANN, BOB, CAT]), st.integers(1, 100), min_size=1)


def creator(amount: int, creator_id: UUID = ANN) -> Share:
    return Share(RecipientKind.CREATOR, amount, creator_id)


def platform(amount: int) -> Share:
    return Share(RecipientKind.PLATFORM, amount)


def test_a_line_with_a_coupon_is_split_70_to_30() -> None:
    price = price_line(4999, discount=percent_discount(4999, 1500), platform_bps=3000, creators={ANN: 1})
    assert (price.discount, price.net, price.tax, price.gross) == (750, 4249, 0, 4249)
    assert price.shares == (creator(2974), platform(1275))


def test_yen_with_tax_and_three_teachers() -> None:
    price = price_line(4980, tax=498, platform_bps=3000, creators={CAT: 1, ANN: 1, BOB: 1})
    assert price.gross == 5478
    assert price.shares == (
        creator(1162, ANN),
        creator(1162, BOB),
        creator(1162, CAT),
        platform(1494),
        Share(RecipientKind.TAX, 498),
    )


def test_three_decimals_are_split_like_any_other_minor_units() -> None:
    assert split(12_340, platform_bps=3000, creators={ANN: 1}) == (creator(8638), platform(3702))


def test_refunds_in_three_parts_end_at_exactly_nothing() -> None:
    left, taken = [2974, 1275], []
    for refund in (1000, 1000, 2249):
        taken.append(allocate(refund, left))
        left = [before - part for before, part in zip(left, taken[-1], strict=True)]
    assert (taken, left) == ([[700, 300], [700, 300], [1574, 675]], [0, 0])


def test_a_free_line_has_no_shares() -> None:
    assert price_line(4999, discount=4999, platform_bps=3000, creators={ANN: 1}).shares == ()


def test_an_exact_half_unit_favours_the_creator() -> None:
    assert split(1, platform_bps=5000, creators={ANN: 1}) == (creator(1),)
    assert split(5, platform_bps=5000, creators={ANN: 1}) == (creator(3), platform(2))


@pytest.mark.parametrize(("bps", "shares"), [(0, (creator(99),)), (10_000, (platform(99),))])
def test_all_or_nothing_for_the_platform(bps: int, shares: tuple[Share, ...]) -> None:
    assert split(99, platform_bps=bps, creators={ANN: 1}) == shares


@given(st.integers(0, 10**8), BPS, CREATORS)
def test_shares_sum_to_the_net_and_each_side_is_within_one_unit(net: int, bps: int, creators: dict[UUID, int]) -> None:
    shares = split(net, platform_bps=bps, creators=creators)
    assert sum(share.amount for share in shares) == net
    assert all(share.amount > 0 for share in shares)
    fee = sum(share.amount for share in shares if share.recipient is RecipientKind.PLATFORM)
    assert abs(fee * 10_000 - net * bps) <= 5_000
    weight = sum(creators.values())
    for share in shares:
        if share.creator_id is not None:
            assert abs(share.amount * weight - (net - fee) * creators[share.creator_id]) < weight


@given(st.integers(0, 10**8), BPS)
def test_a_percentage_is_rounded_half_up(amount: int, bps: int) -> None:
    discount = percent_discount(amount, bps)
    assert -5_000 < discount * 10_000 - amount * bps <= 5_000
    assert 0 <= discount <= amount


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5), min_size=1, max_size=5))
def test_a_fixed_discount_never_exceeds_a_line(discount: int, amounts: list[int]) -> None:
    parts = spread_discount(discount, amounts)
    assert sum(parts) == min(discount, sum(amounts))
    assert all(0 <= part <= amount for part, amount in zip(parts, amounts, strict=True))


@given(st.integers(1, 10**6), BPS, CREATORS, st.data())
def test_refunds_in_parts_take_exactly_the_shares(
    net: int, bps: int, creators: dict[UUID, int], data: st.DataObject
) -> None:
    left = [share.amount for share in split(net, platform_bps=bps, creators=creators)]
    while sum(left):
        part = data.draw(st.integers(max(1, sum(left) // 4), sum(left)))
        left = [amount - taken for amount, taken in zip(left, allocate(part, left), strict=True)]
        assert min(left) >= 0


@pytest.mark.parametrize("bps", [-1, 10_001])
def test_basis_points_outside_the_whole_are_refused(bps: int) -> None:
    with pytest.raises(ValueError, match="basis points"):
        split(100, platform_bps=bps, creators={ANN: 1})
    with pytest.raises(ValueError, match="basis points"):
        percent_discount(100, bps)


@pytest.mark.parametrize("discount", [-1, 101])
def test_a_discount_that_does_not_fit_the_price_is_refused(discount: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        price_line(100, discount=discount, platform_bps=0, creators={ANN: 1})


def test_an_order_is_free_or_chargeable() -> None:
    validate_charge(0, "usd")
    validate_charge(50, "usd")
    with pytest.raises(Invalid) as refused:
        validate_charge(49, "usd")
    assert [(error.field, error.message) for error in refused.value.errors] == [
        ("items", "Total: The least that can be charged is 0.50 USD.")
    ]
