"""Fees and limits per currency, in minor units."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Currency:
    """`bps` and `fixed` make Stripe's processing fee; `minimum` is the smallest charge."""

    bps: int
    fixed: int
    minimum: int
    exponent: int = 2


_DEFAULT = Currency(bps=290, fixed=30, minimum=50)
CURRENCIES = {
    "usd": _DEFAULT,
    "eur": Currency(bps=290, fixed=25, minimum=50),
    "gbp": Currency(bps=290, fixed=20, minimum=30),
    "jpy": Currency(bps=360, fixed=0, minimum=50, exponent=0),
}


def currency(code: str) -> Currency:
    return CURRENCIES.get(code, _DEFAULT)


def fee(amount: int, code: str) -> int:
    """Stripe's processing fee on a charge, half a minor unit rounded up."""
    terms = currency(code)
    return (amount * terms.bps * 2 + 10_000) // 20_000 + terms.fixed


def display(amount: int, code: str) -> str:
    """For people: `$42.49`, `¥4,980`, `12.00 CHF`."""
    exponent = currency(code).exponent
    whole, rest = divmod(amount, 10**exponent)
    text = f"{whole:,}" + (f".{rest:0{exponent}d}" if exponent else "")
    sign = {"usd": "$", "eur": "€", "gbp": "£", "jpy": "¥"}.get(code)
    return f"{sign}{text}" if sign else f"{text} {code.upper()}"
