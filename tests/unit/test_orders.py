"""What a captured charge pays for."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.orders import Charge, Payable, PayableLine, Unapplied, Verdict, judge

CURRENCIES = st.sampled_from(["usd", "eur", "jpy"])
AMOUNTS = st.integers(1, 99_999_999)
LINES = st.lists(
    st.builds(
        PayableLine,
        id=st.uuids(),
        gross=st.integers(0, 9900),
        taken=st.sampled_from([None, None, Unapplied.OWNED, Unapplied.ORDERED]),
        open=st.booleans(),
        seat=st.booleans(),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda line: line.id,
)


def payable(lines: list[PayableLine], *, paid: bool = False, late: bool = False) -> Payable:
    return Payable(gross=sum(line.gross for line in lines), currency="usd", livemode=False, paid=paid, late=late)


def exact(order: Payable) -> Charge:
    return Charge(order.gross, order.currency, order.livemode)


def line(
    number: int = 1, gross: int = 4900, *, taken: Unapplied | None = None, open: bool = True, seat: bool = True
) -> PayableLine:
    return PayableLine(id=UUID(int=number), gross=gross, taken=taken, open=open, seat=seat)


@given(st.builds(Charge, AMOUNTS, CURRENCIES, st.booleans()), LINES, st.booleans(), st.booleans())
def test_granted_and_unapplied_add_up_to_the_charge(
    charge: Charge, lines: list[PayableLine], paid: bool, late: bool
) -> None:
    order = payable(lines, paid=paid, late=late)
    for captured in (charge, exact(order)):
        verdict = judge(captured, order, lines)
        granted = [line for line in lines if line.id in verdict.granted]
        assert sum(line.gross for line in granted) + verdict.unapplied == captured.amount
        assert [line.id for line in granted] == list(verdict.granted)
        assert (verdict.reason is not None) == (len(granted) < len(lines))
        assert judge(captured, order, lines) == verdict


@given(LINES, st.booleans(), st.sampled_from([{"amount": 1}, {"currency": "eur"}, {"livemode": True}]))
def test_wrong_money_grants_nothing_and_all_of_it_goes_back(
    lines: list[PayableLine], late: bool, wrong: dict[str, Any]
) -> None:
    order = payable(lines, late=late)
    right = exact(order)
    charge = replace(right, amount=right.amount + 1) if "amount" in wrong else replace(right, **wrong)
    reason = {"amount": Unapplied.AMOUNT, "currency": Unapplied.CURRENCY, "livemode": Unapplied.MODE}[next(iter(wrong))]
    assert judge(charge, order, lines) == Verdict((), charge.amount, reason)


@given(LINES, st.booleans())
def test_a_second_charge_buys_nothing_whatever_the_lines_are_like(lines: list[PayableLine], late: bool) -> None:
    order = payable(lines, paid=True, late=late)
    assert judge(exact(order), order, lines) == Verdict((), order.gross, Unapplied.DUPLICATE)


@given(LINES, st.booleans())
def test_a_line_is_granted_exactly_when_nothing_stands_in_its_way(lines: list[PayableLine], late: bool) -> None:
    order = payable(lines, late=late)
    granted = judge(exact(order), order, lines).granted
    for line in lines:
        assert (line.id in granted) == (not line.taken and line.seat and (line.open or not late))


@pytest.mark.parametrize(
    ("line", "late", "reason"),
    [
        (line(), False, None),
        (line(), True, None),
        (line(open=False), False, None),  # docs/faults.md, row 10: in time, at the frozen price
        (line(open=False), True, Unapplied.CLOSED),
        (line(seat=False), False, Unapplied.FULL),
        (line(seat=False), True, Unapplied.FULL),
        (line(taken=Unapplied.OWNED), False, Unapplied.OWNED),
        (line(taken=Unapplied.ORDERED), True, Unapplied.ORDERED),
        (line(taken=Unapplied.OWNED, open=False, seat=False), True, Unapplied.OWNED),
        (line(open=False, seat=False), True, Unapplied.FULL),
    ],
)
def test_why_a_line_is_not_granted(line: PayableLine, late: bool, reason: Unapplied | None) -> None:
    order = payable([line], late=late)
    expected = Verdict((), line.gross, reason) if reason else Verdict((line.id,), 0, None)
    assert judge(exact(order), order, [line]) == expected


@pytest.mark.parametrize(
    ("charge", "reason"),
    [
        (Charge(4899, "eur", True), Unapplied.MODE),
        (Charge(4899, "eur", False), Unapplied.CURRENCY),
        (Charge(4899, "usd", False), Unapplied.AMOUNT),
        (Charge(4901, "usd", False), Unapplied.AMOUNT),
        (Charge(4900, "usd", False), Unapplied.DUPLICATE),
    ],
)
def test_the_gravest_mistake_is_named(charge: Charge, reason: Unapplied) -> None:
    assert judge(charge, payable([line()], paid=True), [line()]) == Verdict((), charge.amount, reason)


def test_the_first_refused_line_gives_the_reason() -> None:
    lines = [line(1, 1000), line(2, 700, seat=False), line(3, 500, taken=Unapplied.OWNED), line(4, 200)]
    assert judge(Charge(2400, "usd", False), payable(lines), lines) == Verdict(
        (UUID(int=1), UUID(int=4)), 1200, Unapplied.FULL
    )
