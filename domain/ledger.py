"""The double-entry ledger: its chart of accounts, and the posting each business event makes.

Amounts are minor units of the posting's one currency; a debit is positive, a credit negative. A posting is made
once for its key: the same key and content again is the same posting, the same key with other content an error.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Final
from uuid import UUID

from domain.errors import Conflict, DomainError, Kind
from domain.money import CURRENCIES
from domain.pricing import RecipientKind, Share

_BIGINT_MAX: Final = 2**63 - 1
_KEY_MAX: Final = 200


class AccountKind(StrEnum):
    ASSET = "asset"
    LIABILITY = "liability"
    INCOME = "income"
    CONTRA_INCOME = "contra_income"
    EXPENSE = "expense"


class SignRule(StrEnum):
    """Which balances an account may have; debit is positive."""

    DEBIT_ONLY = "debit_only"
    CREDIT_ONLY = "credit_only"
    ANY = "any"

    def allows(self, balance: int) -> bool:
        return self is SignRule.ANY or (balance >= 0 if self is SignRule.DEBIT_ONLY else balance <= 0)


@dataclass(frozen=True, slots=True)
class AccountType:
    """One line of the chart. `owned`: one account per creator. `guarded`: its balance is kept and checked under a
    row lock at each posting; the others are summed from their entries, so that sales never queue on one row."""

    code: str
    kind: AccountKind
    sign: SignRule = SignRule.ANY
    guarded: bool = False
    owned: bool = False


CHART: Final[Mapping[str, AccountType]] = {
    account.code: account
    for account in (
        AccountType("stripe_receivable", AccountKind.ASSET, SignRule.DEBIT_ONLY),
        AccountType("stripe_balance", AccountKind.ASSET),
        AccountType("disputes_receivable", AccountKind.ASSET, SignRule.DEBIT_ONLY),
        AccountType("connect_balance", AccountKind.ASSET, SignRule.DEBIT_ONLY, guarded=True, owned=True),
        AccountType("payouts_in_transit", AccountKind.ASSET, SignRule.DEBIT_ONLY, guarded=True, owned=True),
        AccountType("platform_bank", AccountKind.ASSET),
        AccountType("fx_clearing", AccountKind.ASSET),
        AccountType("creator_pending", AccountKind.LIABILITY, SignRule.CREDIT_ONLY, guarded=True, owned=True),
        AccountType("creator_available", AccountKind.LIABILITY, guarded=True, owned=True),
        AccountType("creator_dispute_hold", AccountKind.LIABILITY, SignRule.CREDIT_ONLY, guarded=True, owned=True),
        AccountType("creator_payout_reserved", AccountKind.LIABILITY, SignRule.CREDIT_ONLY, guarded=True, owned=True),
        AccountType("refunds_payable", AccountKind.LIABILITY, SignRule.CREDIT_ONLY, guarded=True),
        AccountType("unapplied_payments", AccountKind.LIABILITY, SignRule.CREDIT_ONLY),
        AccountType("tax_payable", AccountKind.LIABILITY, SignRule.CREDIT_ONLY),
        AccountType("platform_fees", AccountKind.INCOME),
        AccountType("platform_fee_reversals", AccountKind.CONTRA_INCOME),
        AccountType("processor_fees", AccountKind.EXPENSE),
        AccountType("dispute_fees", AccountKind.EXPENSE),
        AccountType("dispute_losses", AccountKind.EXPENSE),
        AccountType("coupon_subsidy", AccountKind.EXPENSE),
        AccountType("bad_debt", AccountKind.EXPENSE),
        AccountType("fx_gain_loss", AccountKind.EXPENSE),
    )
}
"""Every account code; an account of the ledger is a code, an owner (for owned ones) and a currency."""


class InvalidPosting(DomainError):
    """A posting that can never be made: it is the caller that is wrong, so trying again is useless."""

    kind = Kind.INVALID
    title = "The posting is not valid"


class PostingConflict(Conflict):
    """The posting key was used before for something else. Nothing was posted; a person must look."""

    title = "The posting contradicts an earlier one"


class SignViolation(Conflict):
    """The posting would bring a guarded account to a balance its sign rule forbids. Nothing was posted."""

    title = "The account does not hold that much"


class PostingKind(StrEnum):
    SALE = "sale"
    SETTLE = "settle"
    UNAPPLIED = "unapplied"
    UNAPPLIED_REFUND = "unapplied_refund"
    REFUND_SETTLE = "refund_settle"
    REFUND_BOUNCE = "refund_bounce"


@dataclass(frozen=True, slots=True)
class Line:
    """One entry: debit > 0, credit < 0, in minor units. `owner_id` is the creator of an owned account."""

    account: str
    amount: int
    owner_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A balanced set of lines in one currency and the business objects it belongs to.

    Making one raises `InvalidPosting` unless there are at least two non-zero lines on distinct accounts of the chart,
    they sum to zero, and the currency is known. `memo` explains and is not part of the identity.
    """

    key: str
    kind: PostingKind
    currency: str
    lines: tuple[Line, ...]
    order_id: UUID | None = None
    refund_id: UUID | None = None
    dispute_id: UUID | None = None
    payout_id: UUID | None = None
    stripe_balance_txn: str | None = None
    stripe_object: str | None = None
    memo: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise InvalidPosting(f"The posting {self.key!r} {problem}.")

    @property
    def request_hash(self) -> bytes:
        """SHA-256 of everything that makes two postings the same one; the order of lines does not matter."""
        content = {
            "kind": self.kind,
            "currency": self.currency,
            "lines": sorted([line.account, str(line.owner_id or ""), line.amount] for line in self.lines),
            "links": [str(link or "") for link in (self.order_id, self.refund_id, self.dispute_id, self.payout_id)],
            "stripe": [self.stripe_balance_txn or "", self.stripe_object or ""],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()


def _problem(posting: Posting) -> str | None:
    """Why a posting cannot be made, or None."""
    if not 1 <= len(posting.key) <= _KEY_MAX:
        return f"has a key of {len(posting.key)} characters"
    if posting.currency not in CURRENCIES:
        return f"is in the unknown currency {posting.currency!r}"
    if len(posting.lines) < 2:
        return f"has {len(posting.lines)} lines"
    for problem in filter(None, map(_line_problem, posting.lines)):
        return problem
    if len({(line.account, line.owner_id) for line in posting.lines}) != len(posting.lines):
        return "has two lines on one account"
    total = sum(line.amount for line in posting.lines)
    return f"is out of balance by {total}" if total else None


def _line_problem(line: Line) -> str | None:
    if type(line.amount) is not int or line.amount == 0 or abs(line.amount) > _BIGINT_MAX:
        return f"has the amount {line.amount!r} on {line.account}"
    account = CHART.get(line.account)
    if account is None:
        return f"uses the unknown account {line.account!r}"
    if account.owned != (line.owner_id is not None):
        return f"{'needs an' if account.owned else 'has a needless'} owner on {line.account}"
    return None


def _lines(lines: Iterable[Line]) -> tuple[Line, ...]:
    """One line per account, those of nothing left out, in the order the accounts appear."""
    totals: dict[tuple[str, UUID | None], int] = {}
    for line in lines:
        account = (line.account, line.owner_id)
        totals[account] = totals.get(account, 0) + line.amount
    return tuple(Line(code, amount, owner_id) for (code, owner_id), amount in totals.items() if amount)


def _positive(**amounts: int) -> None:
    for name, amount in amounts.items():
        if type(amount) is not int or amount <= 0:
            raise InvalidPosting(f"The {name} of a posting must be a positive number of minor units, not {amount!r}.")


_SHARE_ACCOUNT: Final = {
    RecipientKind.CREATOR: "creator_pending",
    RecipientKind.PLATFORM: "platform_fees",
    RecipientKind.TAX: "tax_payable",
}


def sale(*, order_id: UUID, gross: int, currency: str, shares: Sequence[Share]) -> Posting:
    """A paid order: what was captured, owed to the creators and tax offices, or earned by the platform.

    `shares` of all lines together sum to `gross` > 0; a free order posts nothing.
    """
    _positive(gross=gross)
    if any(share.amount < 0 for share in shares):
        raise InvalidPosting(f"A share of order {order_id} is negative.")
    credited = (Line(_SHARE_ACCOUNT[share.recipient], -share.amount, share.creator_id) for share in shares)
    return Posting(
        key=f"sale:{order_id}",
        kind=PostingKind.SALE,
        currency=currency,
        lines=_lines([Line("stripe_receivable", gross), *credited]),
        order_id=order_id,
    )


@dataclass(frozen=True, slots=True)
class Settlement:
    """Stripe's balance transaction `txn`: what a charge (`gross` > 0) or a refund (`gross` < 0) did to its balance.

    `net = gross - fee`, in minor units of its own `currency`; it can be paid out from `available_on`.
    """

    txn: str
    currency: str
    gross: int
    fee: int
    net: int
    available_on: datetime


def _settle(
    key: str, opposite: Line, currency: str, settlement: Settlement, posting: Callable[..., Posting]
) -> tuple[Posting, ...]:
    """The settlement against `opposite`; if Stripe converted, a posting in each currency, joined by `fx_clearing`."""
    moved = Line("stripe_balance", settlement.net), Line("processor_fees", settlement.fee)
    settled = partial(posting, currency=settlement.currency, stripe_balance_txn=settlement.txn)
    if settlement.currency == currency:
        return (settled(key=key, lines=_lines([*moved, opposite])),)
    return (
        posting(key=key, currency=currency, lines=(Line("fx_clearing", -opposite.amount), opposite)),
        settled(key=f"{key}:converted", lines=_lines([*moved, Line("fx_clearing", -settlement.gross)])),
    )


def settle(*, charge: str, order_id: UUID, gross: int, currency: str, settlement: Settlement) -> tuple[Posting, ...]:
    """The balance transaction of a charge of `gross` is known. Creators stay owed in the charge's currency."""
    _positive(gross=gross, settled_gross=settlement.gross)
    posting = partial(Posting, kind=PostingKind.SETTLE, order_id=order_id, stripe_object=charge)
    return _settle(f"settle:{charge}", Line("stripe_receivable", -gross), currency, settlement, posting)


def unapplied(*, charge: str, order_id: UUID, amount: int, currency: str, reason: str) -> Posting:
    """Money captured that buys nothing (twice, late, or not the amount asked for): owed back to who paid it."""
    _positive(amount=amount)
    return Posting(
        key=f"unapplied:{charge}",
        kind=PostingKind.UNAPPLIED,
        currency=currency,
        lines=(Line("stripe_receivable", amount), Line("unapplied_payments", -amount)),
        order_id=order_id,
        stripe_object=charge,
        memo={"reason": reason},
    )


def unapplied_refund(*, charge: str, order_id: UUID, refund_id: UUID, amount: int, currency: str) -> Posting:
    """Stray money is being returned by this refund; `refund_settle` follows once Stripe has taken it."""
    _positive(amount=amount)
    return Posting(
        key=f"unapplied:{charge}:refund",
        kind=PostingKind.UNAPPLIED_REFUND,
        currency=currency,
        lines=(Line("unapplied_payments", amount), Line("refunds_payable", -amount)),
        order_id=order_id,
        refund_id=refund_id,
        stripe_object=charge,
    )


def refund_settle(
    *, refund_id: UUID, order_id: UUID, stripe_refund: str, amount: int, currency: str, settlement: Settlement
) -> tuple[Posting, ...]:
    """Stripe has taken a refund of `amount`, and its fee for making it (none, as a rule), out of its balance."""
    _positive(amount=amount, settled_amount=-settlement.gross)
    posting = partial(
        Posting, kind=PostingKind.REFUND_SETTLE, order_id=order_id, refund_id=refund_id, stripe_object=stripe_refund
    )
    return _settle(f"refund:{refund_id}:settle", Line("refunds_payable", amount), currency, settlement, posting)


def refund_bounce(
    *, refund_id: UUID, order_id: UUID, stripe_refund: str, amount: int, currency: str, stripe_balance_txn: str
) -> Posting:
    """A settled refund failed later: the money is back in Stripe's balance and owed again."""
    _positive(amount=amount)
    return Posting(
        key=f"refund:{refund_id}:bounce",
        kind=PostingKind.REFUND_BOUNCE,
        currency=currency,
        lines=(Line("stripe_balance", amount), Line("refunds_payable", -amount)),
        order_id=order_id,
        refund_id=refund_id,
        stripe_balance_txn=stripe_balance_txn,
        stripe_object=stripe_refund,
    )
