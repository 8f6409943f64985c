"""Random lives of orders against a ledger, compared with their own bookkeeping after every step.

The machine calls the builders of `domain.ledger` by name, so that what it drives can be replaced by a broken variant.
What it expects is computed from orders, charges and refunds alone, never from postings.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from domain import ledger, pricing
from domain.ledger import InvalidPosting, Posting, PostingConflict, SignViolation
from domain.pricing import RecipientKind, Share
from tests.services.books import CREATORS
from tests.services.ledger_world import (
    Account,
    Balances,
    BalanceTransaction,
    Charge,
    Ledger,
    Line,
    MemoryLedger,
    Order,
    Refund,
    Sold,
)

T = TypeVar("T")

LINE = st.builds(
    Line,
    net=st.integers(0, 20_000),
    tax=st.sampled_from([0, 0, 1, 498]),
    bps=st.sampled_from([0, 1, 3000, 3333, 5000, 9999, 10_000]),
    creators=st.dictionaries(st.sampled_from(CREATORS), st.integers(1, 5), min_size=1, max_size=3),
    id=st.builds(uuid4),
)
LINES = st.lists(LINE, min_size=1, max_size=3)
CURRENCY = st.sampled_from(["usd", "eur", "jpy"])
PICK = st.integers(0, 2**16)
FEE = st.integers(0, 400)


def refuses(error: type[Exception], act: Callable[[], object], message: str = "") -> None:
    """As `pytest.raises`, whose failure is not an `Exception` and would end the run instead of the example."""
    try:
        act()
    except error as refusal:
        assert message in str(refusal)  # noqa: PT017
    else:
        raise AssertionError(f"{error.__name__} was expected")


def fair_shares(line: Line, currency: str) -> Counter[Account]:
    """What a sold line owes whom, by the definition of the split in exact arithmetic."""
    creator_side = (2 * line.net * (10_000 - line.bps) + 10_000) // 20_000
    ids, weight = sorted(line.creators), sum(line.creators.values())
    floors = [creator_side * line.creators[one] // weight for one in ids]
    remainders = [creator_side * line.creators[one] % weight for one in ids]
    ranked = sorted(range(len(ids)), key=lambda index: (-remainders[index], index))[: creator_side - sum(floors)]
    due: Counter[Account] = Counter()
    for index, one in enumerate(ids):
        due["creator_pending", one, currency] -= floors[index] + (index in ranked)
    due["platform_fees", None, currency] -= line.net - creator_side
    due["tax_payable", None, currency] -= line.tax
    return due


class LedgerMachine(RuleBasedStateMachine):
    """`open_ledger` gives the ledger to drive; it may hold what earlier examples booked."""

    open_ledger: Callable[[], Ledger] = staticmethod(MemoryLedger)

    def __init__(self) -> None:
        super().__init__()
        self.ledger = self.open_ledger()
        self.before = Counter(self.ledger.balances())
        self.orders: list[Order] = []
        self.charges: list[Charge] = []
        self.provider: list[BalanceTransaction] = []
        self.commands: list[tuple[str, dict[str, Any], Sold]] = []

    # What happens.

    @rule(lines=LINES, currency=CURRENCY)
    def place(self, lines: list[Line], currency: str) -> None:
        self.orders.append(Order(currency, lines))

    @precondition(lambda self: any(order.gross for order in self.orders))
    @rule(pick=PICK, difference=st.sampled_from([0, 0, 0, -1, 1, 500]))
    def pay(self, pick: int, difference: int) -> None:
        """The exact amount buys the order once; anything else, or a second time, is stray."""
        order = self._pick([order for order in self.orders if order.gross], pick)
        amount = max(1, order.gross + difference)
        self._charge(order, amount, order.lines if amount == order.gross and not order.paid else [])

    @precondition(lambda self: any(order.gross and not order.paid for order in self.orders))
    @rule(pick=PICK, granted=st.integers(0, 3))
    def pay_for_what_is_partly_gone(self, pick: int, granted: int) -> None:
        order = self._pick([order for order in self.orders if order.gross and not order.paid], pick)
        self._charge(order, order.gross, order.lines[:granted])

    @precondition(lambda self: any(charge.settled is None for charge in self.charges))
    @rule(pick=PICK, fee=FEE, converted=st.sampled_from([None, None, None, "gbp"]))
    def settle(self, pick: int, fee: int, converted: str | None) -> None:
        charge = self._pick([charge for charge in self.charges if charge.settled is None], pick)
        amount = charge.amount * 4 // 5 + 1 if converted else charge.amount
        charge.settled = self._moved(BalanceTransaction(converted or charge.order.currency, amount, fee))
        of = {"charge": charge.id, "order_id": charge.order.id, "gross": charge.amount}
        self._book("settle", of | {"currency": charge.order.currency, "settlement": charge.settled.settlement})

    @precondition(lambda self: any(charge.stray and charge.refund is None for charge in self.charges))
    @rule(pick=PICK)
    def return_stray(self, pick: int) -> None:
        charge = self._pick([charge for charge in self.charges if charge.stray and charge.refund is None], pick)
        charge.refund = Refund(charge.stray)
        self._book("unapplied_refund", self._stray(charge) | {"refund_id": charge.refund.id})

    @precondition(lambda self: self._refunds(taken=False))
    @rule(pick=PICK, fee=st.sampled_from([0, 0, 7]), converted=st.sampled_from([None, None, "gbp"]))
    def refund_is_taken(self, pick: int, fee: int, converted: str | None) -> None:
        charge, refund = self._pick(self._refunds(taken=False), pick)
        amount = refund.amount * 4 // 5 + 3 if converted else refund.amount
        refund.taken = self._moved(BalanceTransaction(converted or charge.order.currency, -amount, fee))
        self._book("refund_settle", self._refund(charge, refund) | {"settlement": refund.taken.settlement})

    @precondition(lambda self: self._refunds(taken=True))
    @rule(pick=PICK)
    def refund_bounces(self, pick: int) -> None:
        charge, refund = self._pick(self._refunds(taken=True), pick)
        refund.returned = self._moved(BalanceTransaction(charge.order.currency, refund.amount, 0))
        self._book("refund_bounce", self._refund(charge, refund) | {"stripe_balance_txn": refund.returned.id})

    @rule(lines=LINES, currency=CURRENCY, fee=FEE, returned=st.booleans())
    def mature_order(self, lines: list[Line], currency: str, fee: int, returned: bool) -> None:
        """A whole life, so that the ends of long paths are reached: bought, paid again twice, settled, given back."""
        order = Order(currency, lines)
        if not order.gross:
            return
        self.orders.append(order)
        self._charge(order, order.gross, order.lines)
        for _ in range(2):
            self._charge(order, order.gross, [])
        for charge in [charge for charge in self.charges if charge.order is order]:
            self.settle(self._index(charge, lambda one: one.settled is None), fee, None)
            if charge.stray:
                self.return_stray(self._index(charge, lambda one: bool(one.stray and one.refund is None)))
        for taken in (False, True):
            for charge, refund in [one for one in self._refunds(taken=taken) if one[0].order is order]:
                at = self._refunds(taken=taken).index((charge, refund))
                if not taken:
                    self.refund_is_taken(at, fee % 3, None)
                elif returned:
                    self.refund_bounces(at)
                    break

    # What must change nothing.

    @precondition(lambda self: self.commands)
    @rule(random=st.randoms(use_true_random=False))
    def replay(self, random: Random) -> None:
        """Events come again, in any order, and lines in any order."""
        before = self.ledger.fingerprint()
        for name, arguments, sold in random.sample(self.commands, min(6, len(self.commands))):
            if "shares" in arguments:
                arguments = arguments | {"shares": arguments["shares"][::-1]}
            for posting in _postings(name, arguments):
                assert not self.ledger.post(posting, sold), f"{posting.key} was booked twice"
        assert self.ledger.fingerprint() == before

    @precondition(lambda self: self.commands)
    @rule(pick=PICK)
    def contradict(self, pick: int) -> None:
        """The same event with another amount."""
        name, arguments, sold = self._pick(self.commands, pick)
        changed = arguments | {key: arguments[key] + 1 for key in ("gross", "amount") if key in arguments}
        if "shares" in arguments:
            changed["shares"] = [*arguments["shares"], Share(RecipientKind.PLATFORM, 1)]
        if "settlement" in arguments:
            known, more = arguments["settlement"], 1 if "gross" in arguments else -1
            changed["settlement"] = replace(known, gross=known.gross + more, net=known.net + more)
        self._refused(PostingConflict, lambda: self.ledger.post(_postings(name, changed)[0], sold))

    @precondition(lambda self: any(charge.settled for charge in self.charges))
    @rule(pick=PICK)
    def settle_another_charge_with_the_same_money(self, pick: int) -> None:
        charge = self._pick([charge for charge in self.charges if charge.settled], pick)
        assert charge.settled is not None
        arguments = {"charge": f"ch_{uuid4().hex}", "order_id": charge.order.id, "currency": charge.settled.currency}
        arguments |= {"gross": charge.settled.amount, "settlement": charge.settled.settlement}
        [posting] = _postings("settle", arguments)
        self._refused(PostingConflict, lambda: self.ledger.post(posting))

    @rule(currency=CURRENCY, excess=st.integers(1, 100))
    def refund_more_than_is_owed(self, currency: str, excess: int) -> None:
        owed = -self.ledger.balances().get(("refunds_payable", None, currency), 0)
        arguments = {"refund_id": uuid4(), "order_id": uuid4(), "stripe_refund": "re_x", "amount": owed + excess}
        arguments |= {"currency": currency, "settlement": BalanceTransaction(currency, -owed - excess, 0).settlement}
        [posting] = _postings("refund_settle", arguments)
        self._refused(SignViolation, lambda: self.ledger.post(posting))

    @rule(line=LINE, lost=st.sampled_from([-1, 1]))
    def sell_for_another_sum_than_the_shares(self, line: Line, lost: int) -> None:
        shares = pricing.split(line.net + 2, platform_bps=line.bps, creators=line.creators)
        arguments = {"order_id": uuid4(), "gross": line.net + 2 + lost, "currency": "usd", "shares": shares}
        self._refused(InvalidPosting, lambda: self.ledger.post(_postings("sale", arguments)[0]))

    # What always holds.

    @invariant()
    def balances_are_what_happened(self) -> None:
        now = Counter(self.ledger.balances())
        now.subtract(self.before)
        changed = {account: amount for account, amount in now.items() if amount}
        assert changed == self._expected()
        net = sum(moved.net for moved in self.provider)
        assert net == sum(amount for (code, _, _), amount in changed.items() if code == "stripe_balance")

    @invariant()
    def the_books_are_sound(self) -> None:
        assert self.ledger.problems() == []

    # How.

    def _charge(self, order: Order, amount: int, sold: list[Line]) -> None:
        sold = [line for line in sold if line.gross]
        due: Counter[Account] = Counter()
        for line in sold:
            due.update(fair_shares(line, order.currency))
        charge = Charge(order, amount, sold, due)
        self.charges.append(charge)
        if sold:
            order.paid = True
            self._book("sale", *_sale(order, sold))
        if charge.stray:
            self._book("unapplied", self._stray(charge) | {"reason": "duplicate"})

    def _stray(self, charge: Charge) -> dict[str, Any]:
        of = {"charge": charge.id, "order_id": charge.order.id}
        return of | {"amount": charge.stray, "currency": charge.order.currency}

    def _refund(self, charge: Charge, refund: Refund) -> dict[str, Any]:
        of = {"refund_id": refund.id, "order_id": charge.order.id, "stripe_refund": f"re_{refund.id.hex}"}
        return of | {"amount": refund.amount, "currency": charge.order.currency}

    def _moved(self, transaction: BalanceTransaction) -> BalanceTransaction:
        self.provider.append(transaction)
        return transaction

    def _book(self, name: str, arguments: dict[str, Any], sold: Sold = ()) -> None:
        for posting in _postings(name, arguments):
            assert self.ledger.post(posting, sold), f"{posting.key} was booked before"
        self.commands.append((name, arguments, sold))

    def _refused(self, error: type[Exception], act: Callable[[], object]) -> None:
        before = self.ledger.fingerprint()
        refuses(error, act)
        assert self.ledger.fingerprint() == before

    def _refunds(self, *, taken: bool) -> list[tuple[Charge, Refund]]:
        found = [(charge, charge.refund) for charge in self.charges if charge.refund and charge.refund.returned is None]
        return [(charge, refund) for charge, refund in found if (refund.taken is not None) is taken]

    def _index(self, charge: Charge, among: Callable[[Charge], bool]) -> int:
        return [one for one in self.charges if among(one)].index(charge)

    @staticmethod
    def _pick(options: Sequence[T], pick: int) -> T:
        return options[pick % len(options)]

    def _expected(self) -> Balances:
        """Every balance that is not zero, from what was bought, paid, moved and given back."""
        due: Counter[Account] = Counter()
        for charge in self.charges:
            currency = charge.order.currency
            due.update(charge.due)
            if charge.settled is None:
                due["stripe_receivable", None, currency] += charge.amount
            elif charge.settled.currency != currency:
                due["fx_clearing", None, currency] += charge.amount
                due["fx_clearing", None, charge.settled.currency] -= charge.settled.amount
            if charge.refund is None:
                due["unapplied_payments", None, currency] -= charge.stray
            elif charge.refund.taken is None or charge.refund.returned is not None:
                due["refunds_payable", None, currency] -= charge.refund.amount
            if charge.refund and charge.refund.taken and charge.refund.taken.currency != currency:
                due["fx_clearing", None, currency] -= charge.refund.amount
                due["fx_clearing", None, charge.refund.taken.currency] -= charge.refund.taken.amount
        for moved in self.provider:
            due["stripe_balance", None, moved.currency] += moved.net
            due["processor_fees", None, moved.currency] += moved.fee
        return {account: amount for account, amount in due.items() if amount}


def _postings(name: str, arguments: dict[str, Any]) -> list[Posting]:
    made = getattr(ledger, name)(**arguments)
    return [made] if isinstance(made, Posting) else list(made)


class PureMachine(LedgerMachine):
    """On the pure model, where a whole history can be told again."""

    def teardown(self) -> None:
        """Every event twice and in another order ends in the same balances; what comes too early comes again later."""
        told = MemoryLedger()
        waiting = self.commands * 2
        Random(len(waiting)).shuffle(waiting)
        while waiting:
            early = [command for command in waiting if not _told(told, *command)]
            assert len(early) < len(waiting)
            waiting = early
        assert told.balances() == self.ledger.balances()


def _told(told: MemoryLedger, name: str, arguments: dict[str, Any], sold: Sold) -> bool:
    try:
        for posting in _postings(name, arguments):
            told.post(posting, sold)
    except SignViolation:
        return False
    return True


def _sale(order: Order, lines: Sequence[Line]) -> tuple[dict[str, Any], Sold]:
    earned = [
        (line.id, pricing.price_line(line.net, platform_bps=line.bps, creators=line.creators, tax=line.tax).shares)
        for line in lines
    ]
    shares = [share for _, line_shares in earned for share in line_shares]
    gross = sum(line.gross for line in lines)
    return {"order_id": order.id, "gross": gross, "currency": order.currency, "shares": shares}, earned
