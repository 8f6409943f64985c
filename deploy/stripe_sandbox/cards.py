"""Stripe's test cards and test bank accounts, and what each of them does."""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Decline:
    code: str
    decline_code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Card:
    """`refund` is what happens to a refund of it; `disputed` cards are accepted like any other for now. A `debit` is a
    bank account: its bank says only later whether it pays."""

    number: str
    brand: str = "visa"
    decline: Decline | None = None
    authenticate: bool = False
    instantly_available: bool = False
    disputed: bool = False
    debit: bool = False
    refund: Literal["succeeds", "fails_later", "succeeds_later"] = "succeeds"

    @property
    def last4(self) -> str:
        return self.number[-4:]

    @property
    def details(self) -> dict[str, Any]:
        """A payment method's `type`, and what there is to say about it under that name."""
        details: dict[str, Any] = {
            "fingerprint": f"fp{hashlib.sha256(self.number.encode()).hexdigest()[:14]}",
            "last4": self.last4,
        }
        if self.debit:
            bank = {"account_holder_type": "individual", "account_type": "checking", "bank_name": "STRIPE TEST BANK"}
            return {"type": "us_bank_account", "us_bank_account": details | bank | {"routing_number": "110000000"}}
        card = {"brand": self.brand, "country": "US", "exp_month": 12, "exp_year": 2040, "funding": "credit"}
        return {"type": "card", "card": details | card}


def _declined(decline_code: str, message: str = "Your card was declined.") -> Decline:
    return Decline("card_declined", decline_code, message)


_CARDS = (
    Card("4242424242424242"),
    Card("4000056655665556"),
    Card("5555555555554444", brand="mastercard"),
    Card("378282246310005", brand="amex"),
    Card("4000000000000077", instantly_available=True),
    Card("4000002500003155", authenticate=True),
    Card("4000000000003220", authenticate=True),
    Card("4000000000000259", disputed=True),
    Card("4000000000005126", refund="fails_later"),
    Card("4000000000007726", refund="succeeds_later"),
    Card("4000000000000002", decline=_declined("generic_decline")),
    Card("4000000000009995", decline=_declined("insufficient_funds", "Your card has insufficient funds.")),
    Card("4000000000009987", decline=_declined("lost_card")),
    Card("4000000000009979", decline=_declined("stolen_card")),
    Card("4000000000000069", decline=Decline("expired_card", None, "Your card has expired.")),
    Card("4000000000000127", decline=Decline("incorrect_cvc", None, "Your card's security code is incorrect.")),
    Card(
        "4000000000000119",
        decline=Decline(
            "processing_error", None, "An error occurred while processing your card. Try again in a little bit."
        ),
    ),
    Card("000123456789", debit=True),
    Card(
        "000222222227",
        debit=True,
        decline=Decline("payment_intent_payment_attempt_failed", "insufficient_funds", "The payment failed."),
    ),
)
CARDS = {card.number: card for card in _CARDS}
METHODS = {
    "pm_card_visa": "4242424242424242",
    "pm_card_mastercard": "5555555555554444",
    "pm_card_amex": "378282246310005",
    "pm_card_bypassPending": "4000000000000077",
    "pm_card_authenticationRequired": "4000000000003220",
    "pm_card_chargeDeclined": "4000000000000002",
    "pm_card_chargeDeclinedInsufficientFunds": "4000000000009995",
    "pm_card_createDispute": "4000000000000259",
    "pm_card_refundFail": "4000000000005126",
    "pm_card_pendingRefund": "4000000000007726",
    "pm_usBankAccount_success": "000123456789",
    "pm_usBankAccount_insufficientFunds": "000222222227",
}
"""Stripe's ready-made test payment methods."""


def lookup(number: str) -> Card:
    """The card of a number as typed; one that is no test card is declined, as Stripe's test mode does."""
    digits = "".join(character for character in number if character.isdecimal())
    if known := CARDS.get(digits):
        return known
    if not _luhn(digits):
        return Card(digits, decline=Decline("incorrect_number", None, "Your card number is incorrect."))
    message = "Your card was declined. Your request was in test mode, but used a non test (live) card."
    return Card(digits, decline=Decline("card_declined", "live_mode_test_card", message))


def _luhn(digits: str) -> bool:
    total = sum(sum(divmod(int(digit) * (1 + place % 2), 10)) for place, digit in enumerate(reversed(digits)))
    return len(digits) >= 12 and total % 10 == 0
