"""What the ledger machine drives and knows: a ledger in memory, and the orders, charges and refunds of its world."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID, uuid4

from domain.ledger import CHART, Posting, PostingConflict, Settlement, SignRule, SignViolation
from domain.pricing import RecipientKind, Share
from tests.services.books import NOW

Account = tuple[str, UUID | None, str]
Balances = dict[Account, int]
Sold = Sequence[tuple[UUID, Sequence[Share]]]
"""Order lines and their shares: the earnings that go with a sale."""


EARNED = {
    "creator_pending": RecipientKind.CREATOR,
    "platform_fees": RecipientKind.PLATFORM,
    "tax_payable": RecipientKind.TAX,
}


class Ledger(Protocol):
    """What the machine drives: the pure model below, or PostgreSQL."""

    def post(self, posting: Posting, sold: Sold = ()) -> bool:
        """Whether the posting is new; raises what `services.ledger.post` raises."""

    def balances(self) -> Balances: ...

    def problems(self) -> list[str]:
        """Invariants that do not hold by themselves, whatever happened."""

    def fingerprint(self) -> object:
        """Equal before and after what must change nothing."""


class MemoryLedger:
    """The rules of posting without a database."""

    def __init__(self) -> None:
        self.booked: dict[str, Posting] = {}
        self.by_balance_txn: dict[str, str] = {}
        self.kept: Balances = {}
        self.earned: Counter[Account] = Counter()

    def post(self, posting: Posting, sold: Sold = ()) -> bool:
        earlier = self.booked.get(posting.key)
        if earlier is not None and earlier.request_hash == posting.request_hash:
            return False
        if earlier is not None or posting.stripe_balance_txn in self.by_balance_txn:
            raise PostingConflict(posting.key)
        after = dict(self.kept)
        for line in posting.lines:
            account = (line.account, line.owner_id, posting.currency)
            after[account] = after.get(account, 0) + line.amount
            if CHART[line.account].guarded and not CHART[line.account].sign.allows(after[account]):
                raise SignViolation(posting.key)
        self.kept, self.booked[posting.key] = after, posting
        if posting.stripe_balance_txn is not None:
            self.by_balance_txn[posting.stripe_balance_txn] = posting.key
        for _, shares in sold:
            for share in shares:
                self.earned[share.recipient, share.creator_id, posting.currency] += share.amount
        return True

    def balances(self) -> Balances:
        return dict(self.kept)

    def problems(self) -> list[str]:
        found = [f"{posting.key} is not balanced" for posting in self.booked.values() if not _balanced(posting)]
        per_currency: Counter[str] = Counter()
        for (code, owner_id, currency), balance in self.kept.items():
            per_currency[currency] += balance
            rule = CHART[code].sign
            if (rule is SignRule.DEBIT_ONLY and balance < 0) or (rule is SignRule.CREDIT_ONLY and balance > 0):
                found.append(f"{code} of {owner_id} is at {balance} {currency}")
            if code in EARNED and balance != -self.earned[EARNED[code], owner_id, currency]:
                found.append(f"{code} of {owner_id} is not what the earnings say")
        return found + [f"{currency} sums to {total}" for currency, total in per_currency.items() if total]

    def fingerprint(self) -> object:
        return {key: (posting, posting.request_hash) for key, posting in self.booked.items()}, self.kept


def _balanced(posting: Posting) -> bool:
    amounts = [line.amount for line in posting.lines]
    return len(amounts) > 1 and all(amounts) and not sum(amounts)


@dataclass
class Line:
    net: int
    tax: int
    bps: int
    creators: dict[UUID, int]
    id: UUID = field(default_factory=uuid4)

    @property
    def gross(self) -> int:
        return self.net + self.tax


@dataclass
class Order:
    currency: str
    lines: list[Line]
    id: UUID = field(default_factory=uuid4)
    paid: bool = False

    @property
    def gross(self) -> int:
        return sum(line.gross for line in self.lines)


@dataclass
class BalanceTransaction:
    """What the payment provider says moved on the platform's balance."""

    currency: str
    amount: int
    fee: int
    id: str = field(default_factory=lambda: f"txn_{uuid4().hex}")

    @property
    def net(self) -> int:
        return self.amount - self.fee

    @property
    def settlement(self) -> Settlement:
        return Settlement(self.id, self.currency, self.amount, self.fee, self.net, NOW)


@dataclass
class Refund:
    amount: int
    id: UUID = field(default_factory=uuid4)
    taken: BalanceTransaction | None = None
    returned: BalanceTransaction | None = None


@dataclass
class Charge:
    order: Order
    amount: int
    sold: list[Line]
    due: Balances
    """What the sold lines owe whom."""
    settled: BalanceTransaction | None = None
    refund: Refund | None = None
    id: str = field(default_factory=lambda: f"ch_{uuid4().hex}")

    @property
    def stray(self) -> int:
        return self.amount - sum(line.gross for line in self.sold)
