"""Fees and limits per currency, in minor units."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Currency:
    """`bps` and `fixed` make Stripe's processing fee; `minimum` is the smallest charge."""

    bps: int
    fixed: int
    minimum: int
    exponent: int = 2


_DEFAULT = Currency(bps=290, fixed=30, minimum=50)
_TWO_DECIMALS = """
    aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bmd bnd bob brl bsd bwp byn bzd cad cdf chf cny cop crc
    cve czk dkk dop dzd egp etb fjd fkp gel gip gmd gtq gyd hkd hnl htg huf idr ils inr isk jmd kes kgs khr kyd kzt
    lak lbp lkr lrd lsl mad mdl mkd mmk mnt mop mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd pab pen pgk php pkr
    pln qar ron rsd rub sar sbd scr sek sgd shp sle sos srd std szl thb tjs top try ttd twd tzs uah uyu uzs wst xcd
    xcg yer zar zmw
"""
_THREE_DECIMALS = "bhd jod kwd omr tnd"
_NO_DECIMALS = "bif clp djf gnf kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf"
CURRENCIES = {
    **dict.fromkeys(_TWO_DECIMALS.split(), _DEFAULT),
    **dict.fromkeys(_THREE_DECIMALS.split(), replace(_DEFAULT, exponent=3)),
    **dict.fromkeys(_NO_DECIMALS.split(), replace(_DEFAULT, exponent=0)),
    "usd": _DEFAULT,
    "eur": Currency(bps=290, fixed=25, minimum=50),
    "gbp": Currency(bps=290, fixed=20, minimum=30),
    "jpy": Currency(bps=360, fixed=0, minimum=50, exponent=0),
}
"""What can be charged."""


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
