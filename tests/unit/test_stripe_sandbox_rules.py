"""The sandbox's pure parts: parameters, fees, cards, signatures, transactions."""

import sqlite3

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st

from deploy.stripe_sandbox import cards, money, schema
from deploy.stripe_sandbox.delivery import sign
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.params import compile_params, decode
from deploy.stripe_sandbox.store import Store

SESSIONS = compile_params(
    "POST",
    "/v1/checkout/sessions",
    frozenset({"customer_email", "expires_at", "line_items", "metadata", "success_url"}),
)
INTENTS = compile_params("POST", "/v1/payment_intents", frozenset({"amount", "currency", "receipt_email"}))


def test_the_subset_describes_the_installed_client() -> None:
    assert schema.api_version() == stripe.api_version


def test_brackets_become_typed_parameters() -> None:
    form = b"line_items[0][quantity]=2&line_items[1][quantity]=1&metadata[a]=b%26c&expand[]=x&expand[]=y&expires_at=7"
    typed = SESSIONS(decode(form), "")
    assert typed == {
        "line_items": [{"quantity": 2}, {"quantity": 1}],
        "metadata": {"a": "b&c"},
        "expand": ["x", "y"],
        "expires_at": 7,
    }


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        (b"foo=1", "parameter_unknown", "foo"),
        (b"metadata=x", None, "metadata"),
        (b"line_items=x", None, "line_items"),
        (b"line_items[x][quantity]=1", None, "line_items"),
        (b"line_items[0][quantity]=", "parameter_invalid_empty", "line_items[0][quantity]"),
        (b"line_items[0][quantity]=two", "parameter_invalid_integer", "line_items[0][quantity]"),
        (b"allow_promotion_codes=yes", None, "allow_promotion_codes"),
        (b"success_url[a]=b", None, "success_url"),
        (b"success_url=", "parameter_invalid_empty", "success_url"),
        (b"customer_email=mina", "email_invalid", "customer_email"),
        (b"customer_email=mina@", "email_invalid", "customer_email"),
        (b"a[b]=1&a=2&a[b][c]=3", None, "a[b][c]"),
        (b"a" + b"[b]" * 20 + b"=1", None, "a" + "[b]" * 20),
    ],
)
def test_wrong_parameters_are_named(form: bytes, code: str | None, param: str) -> None:
    with pytest.raises(StripeError) as refusal:
        SESSIONS(decode(form), "")
    error = refusal.value.body["error"]
    assert (error.get("code"), error["param"], refusal.value.stored) == (code, param, False)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(StripeError) as refusal:
        INTENTS(decode(b"amount=100"), "")
    assert refusal.value.body["error"]["message"] == "Missing required param: currency."


def test_an_empty_string_unsets_where_stripe_lets_it() -> None:
    check = compile_params("POST", "/v1/products/{id}", frozenset({"description", "images", "metadata", "name"}))
    unset = {"description": None, "images": None, "metadata": None}
    assert check(decode(b"description=&images=&metadata="), "") == unset
    assert check(decode(b"metadata[a]=1&metadata[b]="), "") == {"metadata": {"a": "1", "b": ""}}
    with pytest.raises(StripeError, match="empty values are an attempt to unset"):
        check(decode(b"name="), "")


@pytest.mark.parametrize("number", ["1_000", " 1", "+1", "1.0", "²", "1e3", "9" * 19, "9" * 5000])
def test_a_number_is_written_in_digits(number: str) -> None:
    with pytest.raises(StripeError) as refusal:
        SESSIONS({"expires_at": number}, "")
    assert refusal.value.body["error"]["code"] == "parameter_invalid_integer"


@pytest.mark.parametrize("index", ["²", "9" * 5000, "-1"])
def test_an_index_is_a_number(index: str) -> None:
    with pytest.raises(StripeError, match="Invalid array"):
        SESSIONS({"line_items": {index: {"quantity": "1"}}}, "")


def test_a_form_is_utf_8() -> None:
    with pytest.raises(StripeError, match="UTF-8") as refusal:
        decode(b"success_url=\xff")
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("amount", "currency", "fee"),
    [(4249, "usd", 153), (1000, "usd", 59), (50, "usd", 31), (5478, "jpy", 197), (1000, "eur", 54), (1000, "chf", 59)],
)
def test_the_fee_is_rounded_half_up(amount: int, currency: str, fee: int) -> None:
    assert money.fee(amount, currency) == fee


@given(st.integers(min_value=0, max_value=10**9))
def test_a_fee_is_a_share_and_a_fixed_part(amount: int) -> None:
    exact = amount * 290
    assert abs((money.fee(amount, "usd") - 30) * 10_000 - exact) <= 5_000


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (4249, "usd", "$42.49"),
        (5, "eur", "€0.05"),
        (123456, "jpy", "¥123,456"),
        (1200, "chf", "12.00 CHF"),
        (1200, "krw", "1,200 KRW"),
        (1200, "kwd", "1.200 KWD"),
    ],
)
def test_amounts_are_shown_to_people(amount: int, currency: str, text: str) -> None:
    assert money.display(amount, currency) == text


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("4242 4242 4242 4242", None),
        ("4000000000000002", "card_declined"),
        ("4242424242424241", "incorrect_number"),
        ("4111111111111111", "card_declined"),
        ("4242 4242 4242 4243²", "incorrect_number"),
        ("", "incorrect_number"),
    ],
)
def test_only_test_cards_pay(number: str, code: str | None) -> None:
    decline = cards.lookup(number).decline
    assert (decline.code if decline else None) == code


@given(st.binary(max_size=200).filter(lambda body: _is_text(body)), st.text("abc_", min_size=1))
def test_signatures_are_those_of_the_official_library(body: bytes, secret: str) -> None:
    assert sign(body, secret, 7) == stripe.WebhookSignature.generate_signature_header(body.decode(), secret, 7)


def test_a_commit_that_fails_leaves_no_transaction_behind() -> None:
    store = Store(":memory:")
    store.execute("pragma foreign_keys=on")
    store.execute("create table parents (id integer primary key)")
    store.execute("create table children (parent integer references parents deferrable initially deferred)")
    with pytest.raises(sqlite3.IntegrityError), store.transaction():
        store.execute("insert into children values (1)")
    with store.transaction():
        store.execute("insert into parents values (1)")
    assert store.execute("select count(*) from children").fetchone() == (0,)


def _is_text(body: bytes) -> bool:
    try:
        return bool(body.decode())
    except UnicodeDecodeError:
        return False
