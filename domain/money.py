"""Money: integer minor units and a currency, never floats, and how an amount is divided without losing a unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Final

from domain.errors import FieldError, Invalid

MAX_CHARGE: Final = 99_999_999
"""The largest amount one Stripe charge may have, in minor units of any currency (eight digits)."""


@dataclass(frozen=True, slots=True)
class Currency:
    """What may be charged and paid out in one currency; all amounts are minor units.

    `exponent` is the number of decimals, `charge_quantum` and `payout_quantum` the steps an amount moves in,
    `payout_threshold` the least a creator is paid.
    """

    code: str
    exponent: int = 2
    charge_quantum: int = 1
    payout_quantum: int = 1
    min_charge: int = 50
    payout_threshold: int = 5000
    enabled: bool = False


_TWO_DECIMAL: Final = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb fjd fkp gel gip gmd gtq gyd hkd hnl htg idr ils inr jmd kes kgs khr kyd kzt lak lbp
    lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr pln qar
    ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd tzs uah uyu uzs wst xcd xcg yer zar
    zmw
"""


def _known_currencies() -> Mapping[str, Currency]:
    """Stripe's currencies: it may settle a charge in any of them. Only those that are `enabled` can be priced in."""
    zero_decimal = ["bif", "clp", "djf", "gnf", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"]
    # How Stripe scales three-decimal currencies and UGX is not documented beyond doubt: known, but not enabled.
    three_decimal = ["bhd", "jod", "kwd", "omr", "tnd"]
    rows = [
        Currency("usd", enabled=True),
        Currency("eur", enabled=True),
        Currency("gbp", min_charge=30, enabled=True),
        Currency("jpy", exponent=0, enabled=True),
        *(Currency(code) for code in _TWO_DECIMAL.split()),
        *(Currency(code, exponent=0) for code in zero_decimal),
        *(
            Currency(code, exponent=3, charge_quantum=10, payout_quantum=10, min_charge=500, payout_threshold=50_000)
            for code in three_decimal
        ),
        Currency("isk", charge_quantum=100, payout_quantum=100, min_charge=100),
        Currency("huf", payout_quantum=100, min_charge=17_500),
        Currency("twd", payout_quantum=100),
        Currency("ugx", charge_quantum=100, payout_quantum=100, min_charge=100),
    ]
    return {row.code: row for row in rows}


CURRENCIES: Final[Mapping[str, Currency]] = _known_currencies()
"""Every currency Lyceum knows, by lower-case ISO 4217 code; the `currencies` table holds the same rows."""


def currency_of(code: str) -> Currency:
    """The currency with this lower-case code; raises `Invalid` for one that is not known."""
    try:
        return CURRENCIES[code]
    except KeyError:
        raise Invalid(f"The currency {code!r} is not known.") from None


@total_ordering
@dataclass(frozen=True, slots=True)
class Money:
    """An amount in minor units. Adding or comparing two currencies raises `ValueError`."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount) is not int:
            raise TypeError(f"an amount is an int of minor units, not {self.amount!r}")
        if self.currency not in CURRENCIES:
            raise ValueError(f"unknown currency {self.currency!r}")

    def _same(self, other: "Money") -> int:
        if self.currency != other.currency:
            raise ValueError(f"cannot mix {self.currency} and {other.currency}")
        return other.amount

    def __add__(self, other: "Money") -> "Money":
        return Money(self.amount + self._same(other), self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.amount - self._same(other), self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount, self.currency)

    def __lt__(self, other: "Money") -> bool:
        return self.amount < self._same(other)

    def __bool__(self) -> bool:
        return self.amount != 0

    def __str__(self) -> str:
        return f"{decimal_string(self.amount, self.currency)} {self.currency.upper()}"

    def allocate(self, weights: Sequence[int]) -> list["Money"]:
        """This amount in parts proportional to `weights`; see `allocate`."""
        return [Money(part, self.currency) for part in allocate(self.amount, weights)]


def decimal_string(amount: int, currency: str) -> str:
    """Minor units as a plain decimal: `decimal_string(-4249, "usd") == "-42.49"`, `4980` yen is `"4980"`."""
    exponent = currency_of(currency).exponent
    sign = "-" if amount < 0 else ""
    whole, fraction = divmod(abs(amount), 10**exponent)
    return f"{sign}{whole}" + (f".{fraction:0{exponent}d}" if exponent else "")


def allocate(total: int, weights: Sequence[int]) -> list[int]:
    """`total` ≥ 0 in parts proportional to `weights` (each ≥ 0, at least one positive), by largest remainder.

    The parts sum to `total`, each is less than one unit from its exact share, and equal remainders favour the lower
    index. With the weights being what is left of earlier parts and `total` at most their sum, no part exceeds what
    is left of it. Raises `ValueError` for anything else.
    """
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("neither the total nor a weight may be negative")
    whole = sum(weights)
    if whole == 0:
        raise ValueError("at least one weight must be positive")
    parts = [total * weight // whole for weight in weights]
    remainders = [total * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts


def charge_error(amount: int, currency: Currency) -> str | None:
    """Why `amount` cannot be charged in `currency`, or None when it can."""
    if amount < currency.min_charge:
        return f"The least that can be charged is {Money(currency.min_charge, currency.code)}."
    if amount > MAX_CHARGE:
        return f"The most that can be charged is {Money(MAX_CHARGE, currency.code)}."
    if amount % currency.charge_quantum:
        return f"The amount must be a multiple of {Money(currency.charge_quantum, currency.code)}."
    return None


def validate_price(amount: int | None, currency: str | None) -> None:
    """Raises `Invalid` unless this can be the price of something. Both None means free; 0 is refused."""
    if amount is None and currency is None:
        return
    if amount is None:
        raise _invalid("amount", "A price needs an amount.", "missing")
    if currency is None:
        raise _invalid("currency", "A price needs a currency.", "missing")
    known = CURRENCIES.get(currency)
    if known is None or not known.enabled:
        allowed = ", ".join(row.code for row in CURRENCIES.values() if row.enabled)
        raise _invalid("currency", f"The currency must be one of {allowed}.", "currency_not_supported")
    problem = charge_error(amount, known)
    if problem:
        raise _invalid("amount", problem, "amount_not_chargeable")


def _invalid(field: str, message: str, code: str) -> Invalid:
    return Invalid("The price is not valid.", errors=[FieldError(f"price.{field}", message, code)])
