"""What a line of an order costs and who earns it. Decided once, at sale, and frozen on the order line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from domain.errors import FieldError, Invalid
from domain.money import allocate, charge_error, currency_of

WHOLE_BPS: Final = 10_000
"""One hundred per cent in basis points."""


class RecipientKind(StrEnum):
    CREATOR = "creator"
    PLATFORM = "platform"
    TAX = "tax"


@dataclass(frozen=True, slots=True)
class Share:
    """What one recipient earns of a line, in minor units; `creator_id` is set for creators only."""

    recipient: RecipientKind
    amount: int
    creator_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class LinePrice:
    """A priced line in minor units: `net = list_amount - discount`, `gross = net + tax`, the shares sum to `gross`."""

    list_amount: int
    discount: int
    net: int
    tax: int
    gross: int
    platform_bps: int
    shares: tuple[Share, ...]


def percent_discount(amount: int, bps: int) -> int:
    """`bps` basis points of `amount`, half a unit rounded up, as Stripe rounds."""
    return (amount * _checked_bps(bps) * 2 + WHOLE_BPS) // (2 * WHOLE_BPS)


def spread_discount(discount: int, amounts: Sequence[int]) -> list[int]:
    """A fixed discount over lines in proportion to their amounts; never more on a line than it costs."""
    whole = sum(amounts)
    return allocate(min(discount, whole), amounts) if whole else [0] * len(amounts)


def price_line(
    list_amount: int, *, platform_bps: int, creators: Mapping[UUID, int], discount: int = 0, tax: int = 0
) -> LinePrice:
    """Prices a line. `creators` maps each creator to a weight; tax is outside the split."""
    if not 0 <= discount <= list_amount:
        raise ValueError(f"a discount of {discount} does not fit a price of {list_amount}")
    net = list_amount - discount
    shares = split(net, platform_bps=platform_bps, creators=creators)
    if tax:
        shares += (Share(RecipientKind.TAX, tax),)
    return LinePrice(list_amount, discount, net, tax, net + tax, platform_bps, shares)


def split(net: int, *, platform_bps: int, creators: Mapping[UUID, int]) -> tuple[Share, ...]:
    """`net` minor units between the platform and the creators; an exact half unit favours the creators.

    Creators share their side by weight, in the order of their ids. Shares of nothing are left out.
    """
    creator_side, platform = allocate(net, [WHOLE_BPS - _checked_bps(platform_bps), platform_bps])
    ids = sorted(creators)
    parts = allocate(creator_side, [creators[creator_id] for creator_id in ids])
    shares = [Share(RecipientKind.CREATOR, part, creator_id) for creator_id, part in zip(ids, parts, strict=True)]
    return tuple(share for share in (*shares, Share(RecipientKind.PLATFORM, platform)) if share.amount)


def validate_charge(gross: int, currency: str) -> None:
    """Raises `Invalid` when an order of `gross` minor units is neither free nor something Stripe can charge."""
    problem = charge_error(gross, currency_of(currency)) if gross else None
    if problem:
        raise Invalid(
            "The order cannot be charged.", errors=[FieldError("items", f"Total: {problem}", "amount_not_chargeable")]
        )


def _checked_bps(bps: int) -> int:
    if not 0 <= bps <= WHOLE_BPS:
        raise ValueError(f"{bps} is not between 0 and {WHOLE_BPS} basis points")
    return bps
