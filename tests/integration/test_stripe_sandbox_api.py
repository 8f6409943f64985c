"""The sandbox's API through the official client: every operation, every reply checked against the subset."""

import time
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import stripe

from deploy.stripe_sandbox import schema
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.params import compile_params
from deploy.stripe_sandbox.registry import HANDLERS
from tests.integration.stripe_sandbox import DECLINED, INSUFFICIENT, KEY, OK, SECURE, Served, line, serve
from tests.support.sandbox import FAILS_LATER, PAYS_LATER

TAXED = {
    "quantity": 1,
    "price_data": {"currency": "usd", "unit_amount": 100, "product_data": {"name": "A", "tax_code": "txcd_1"}},
}


@pytest.fixture
async def sandbox() -> AsyncIterator[Served]:
    async with serve() as served:
        await served.control("PUT", "/settings", {"balance_transaction_delay": 0})
        yield served


async def test_every_operation_answers_as_the_subset_says(sandbox: Served) -> None:
    await _customers(sandbox)
    await _catalogue(sandbox)
    charge = await _checkout(sandbox)
    await _intents(sandbox)
    await _charges_and_balance(sandbox, charge)
    await _refunds(sandbox, charge)
    await _endpoints_and_events(sandbox)
    assert set(HANDLERS) - sandbox.seen == set()


async def _customers(sandbox: Served) -> None:
    api = sandbox.client.v1.customers
    made = await api.create_async({"email": "mina@example.com", "name": "Mina", "metadata": {"a": "1", "b": "2"}})
    changed = await api.update_async(made.id, {"metadata": {"a": ""}, "address": {"city": "Oslo"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2"}
    assert (await api.retrieve_async(made.id)).email == "mina@example.com"
    assert [found.id for found in (await api.list_async({"email": "mina@example.com"})).data] == [made.id]
    assert (await api.delete_async(made.id)).deleted is True
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await api.retrieve_async(made.id)
    assert (refusal.value.code, refusal.value.http_status) == ("resource_missing", 404)


async def _catalogue(sandbox: Served) -> None:
    products, prices = sandbox.client.v1.products, sandbox.client.v1.prices
    product = await products.create_async({"name": "Course"})
    await products.update_async(product.id, {"description": "Better"})
    assert (await products.retrieve_async(product.id)).description == "Better"
    assert [found.id for found in (await products.list_async({"active": True})).data] == [product.id]
    price = await prices.create_async({"currency": "usd", "unit_amount": 900, "product": product.id})
    await prices.update_async(price.id, {"nickname": "Launch"})
    assert (await prices.retrieve_async(price.id, {"expand": ["product"]})).nickname == "Launch"
    assert [found.id for found in (await prices.list_async({"product": product.id})).data] == [price.id]
    session = await sandbox.checkout(line_items=[{"price": price.id, "quantity": 2}])
    assert session.amount_total == 1800
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        await products.delete_async(product.id)
    assert (await products.delete_async((await products.create_async({"name": "Empty"})).id)).deleted is True


async def _checkout(sandbox: Served) -> str:
    api = sandbox.client.v1.checkout.sessions
    session = await sandbox.checkout(line_items=[line("A", 1000), line("B", 500, quantity=2)])
    assert (session.amount_total, session.status, session.payment_status) == (2000, "open", "unpaid")
    items = await api.line_items.list_async(session.id)
    assert [(item.description, item.amount_total) for item in items.data] == [("A", 1000), ("B", 1000)]
    updated = await api.update_async(session.id, {"metadata": {"more": "yes"}})
    assert updated.metadata is not None
    assert updated.metadata.to_dict() == {"order_id": "o1", "attempt": "1", "more": "yes"}
    paid = await sandbox.pay(session.id)
    found = await api.list_async({"payment_intent": paid["payment_intent"], "status": "complete"})
    assert [one.id for one in found.data] == [session.id]
    open_one = await sandbox.checkout()
    assert (await api.expire_async(open_one.id)).status == "expired"
    assert (await api.retrieve_async(open_one.id, {"expand": ["line_items"]})).url is None
    return str(paid["charge"])


async def _intents(sandbox: Served) -> None:
    api = sandbox.client.v1.payment_intents
    intent = await api.create_async({"amount": 700, "currency": "usd"})
    await api.update_async(intent.id, {"amount": 800, "metadata": {"x": "y"}})
    with pytest.raises(stripe.CardError) as refusal:
        await api.confirm_async(intent.id, {"payment_method": "pm_card_chargeDeclined"})
    assert (refusal.value.code, refusal.value.http_status) == ("card_declined", 402)
    assert (await api.retrieve_async(intent.id)).status == "requires_payment_method"
    done = await api.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert (done.status, done.amount_received) == ("succeeded", 800)
    with pytest.raises(stripe.InvalidRequestError) as late:
        await api.cancel_async(intent.id)
    assert late.value.code == "payment_intent_unexpected_state"
    other = await api.create_async({"amount": 700, "currency": "usd"})
    assert (await api.cancel_async(other.id, {"cancellation_reason": "abandoned"})).status == "canceled"
    assert [one.id for one in (await api.list_async({"limit": 2})).data] == [other.id, intent.id]


async def _charges_and_balance(sandbox: Served, charge_id: str) -> None:
    api = sandbox.client.v1
    charge = await api.charges.retrieve_async(charge_id, {"expand": ["balance_transaction", "payment_intent"]})
    txn = charge.balance_transaction
    assert isinstance(txn, stripe.BalanceTransaction)
    assert (txn.amount, txn.fee, txn.net, txn.status) == (2000, 88, 1912, "pending")
    await api.charges.update_async(charge_id, {"description": "A and B"})
    assert isinstance(charge.payment_intent, stripe.PaymentIntent)
    listed = await api.charges.list_async({"payment_intent": charge.payment_intent.id})
    assert [one.id for one in listed.data] == [charge_id]
    assert (await api.balance_transactions.retrieve_async(txn.id)).source == charge_id
    assert [one.id for one in (await api.balance_transactions.list_async({"source": charge_id})).data] == [txn.id]
    balance = await api.balance.retrieve_async()
    assert [(part.currency, part.amount) for part in balance.pending] == [("usd", 1912 + 747)]


async def _refunds(sandbox: Served, charge_id: str) -> None:
    api = sandbox.client.v1.refunds
    refund = await api.create_async({"charge": charge_id, "amount": 500, "reason": "duplicate"})
    await api.update_async(refund.id, {"metadata": {"refund_id": "r1"}})
    found = await api.retrieve_async(refund.id, {"expand": ["balance_transaction", "charge.refunds"]})
    assert isinstance(found.balance_transaction, stripe.BalanceTransaction)
    assert (found.balance_transaction.net, found.balance_transaction.fee) == (-500, 0)
    assert [one.id for one in (await api.list_async({"charge": charge_id})).data] == [refund.id]
    with pytest.raises(stripe.InvalidRequestError, match="cannot be canceled"):
        await api.cancel_async(refund.id)
    await sandbox.control("POST", f"/refunds/{refund.id}", {"status": "requires_action"})
    assert (await api.cancel_async(refund.id)).status == "canceled"


async def _endpoints_and_events(sandbox: Served) -> None:
    api = sandbox.client.v1.webhook_endpoints
    made = await api.create_async({"url": "http://127.0.0.1:1/hook", "enabled_events": ["charge.succeeded"]})
    assert str(made.secret).startswith("whsec_")
    await api.update_async(made.id, {"disabled": True})
    assert "secret" not in (await api.retrieve_async(made.id)).to_dict()
    assert [one.status for one in (await api.list_async()).data] == ["disabled"]
    assert (await api.delete_async(made.id)).deleted is True
    events = sandbox.client.v1.events
    newest = (await events.list_async({"type": "refund.*", "limit": 1})).data[0]
    assert (await events.retrieve_async(newest.id)).type == "refund.updated"


async def test_the_subset_is_the_version_of_the_installed_client(sandbox: Served) -> None:
    session = await sandbox.checkout()
    assert session.last_response is not None
    assert session.last_response.headers["Stripe-Version"] == stripe.api_version


async def test_a_declined_card_leaves_the_session_open_and_the_next_card_pays(sandbox: Served) -> None:
    session = await sandbox.checkout()
    first = await sandbox.pay(session.id, DECLINED)
    second = await sandbox.pay(session.id, INSUFFICIENT)
    third = await sandbox.pay(session.id)
    assert [one["outcome"] for one in (first, second, third)] == ["declined", "declined", "succeeded"]
    assert first["error"]["code"] == "card_declined"
    assert second["error"]["decline_code"] == "insufficient_funds"
    assert first["payment_intent"] == third["payment_intent"]
    assert (third["status"], third["payment_status"], third["error"]) == ("complete", "paid", None)
    assert await sandbox.event_types() == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


@pytest.mark.parametrize(("passed", "status"), [(True, "complete"), (False, "open")])
async def test_a_3d_secure_card_waits_for_its_holder(sandbox: Served, passed: bool, status: str) -> None:
    session = await sandbox.checkout()
    waiting = await sandbox.pay(session.id, SECURE)
    assert (waiting["outcome"], waiting["charge"]) == ("requires_action", None)
    answered = await sandbox.control("POST", f"/checkout/{session.id}/authenticate", {"passed": passed})
    assert answered["status"] == status


async def test_a_bank_debit_is_paid_once_its_bank_has_answered(sandbox: Served) -> None:
    session = await sandbox.checkout()
    asked = await sandbox.pay(session.id, PAYS_LATER)
    assert (asked["outcome"], asked["status"], asked["payment_status"]) == ("processing", "complete", "unpaid")
    charges, sessions = sandbox.client.v1.charges, sandbox.client.v1.checkout.sessions
    charge = await charges.retrieve_async(asked["charge"])
    assert (charge.status, charge.paid, charge.balance_transaction) == ("pending", False, None)
    intents = sandbox.client.v1.payment_intents
    assert (await intents.retrieve_async(asked["payment_intent"])).status == "processing"
    with pytest.raises(stripe.InvalidRequestError, match="has not been paid"):
        await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    await sandbox.control("POST", "/clock", {"advance_seconds": 179})
    assert (await sessions.retrieve_async(session.id)).payment_status == "unpaid"
    await sandbox.control("POST", "/clock", {"advance_seconds": 1})
    found = await sessions.retrieve_async(session.id, {"expand": ["payment_intent.latest_charge.balance_transaction"]})
    assert (found.status, found.payment_status) == ("complete", "paid")
    assert isinstance(found.payment_intent, stripe.PaymentIntent)
    assert (found.payment_intent.status, found.payment_intent.amount_received) == ("succeeded", 4249)
    charge = await charges.retrieve_async(charge.id, {"expand": ["balance_transaction"]})
    assert isinstance(charge.balance_transaction, stripe.BalanceTransaction)
    assert (charge.status, charge.paid, charge.balance_transaction.net) == ("succeeded", True, 4096)
    assert await sandbox.event_types() == [
        "payment_intent.created",
        "charge.pending",
        "payment_intent.processing",
        "checkout.session.completed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]


async def test_a_bank_debit_may_fail_when_the_session_is_long_complete(sandbox: Served) -> None:
    session = await sandbox.checkout()
    asked = await sandbox.pay(session.id, FAILS_LATER)
    assert (asked["outcome"], asked["error"]) == ("processing", None)
    await sandbox.control("POST", "/clock", {"advance_seconds": 180})
    found = await sandbox.client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["payment_intent"]})
    assert (found.status, found.payment_status) == ("complete", "unpaid")
    assert isinstance(found.payment_intent, stripe.PaymentIntent)
    assert (found.payment_intent.status, found.payment_intent.payment_method) == ("requires_payment_method", None)
    error = found.payment_intent.last_payment_error
    assert error is not None
    assert (error.code, error.type) == ("payment_intent_payment_attempt_failed", "invalid_request_error")
    charge = await sandbox.client.v1.charges.retrieve_async(asked["charge"])
    assert (charge.status, charge.paid, charge.balance_transaction) == ("failed", False, None)
    assert (await sandbox.event_types())[-3:] == [
        "charge.failed",
        "payment_intent.payment_failed",
        "checkout.session.async_payment_failed",
    ]


async def test_a_bank_debit_needs_no_session(sandbox: Served) -> None:
    await sandbox.control("PUT", "/settings", {"debit_delay": 60})
    api = sandbox.client.v1.payment_intents
    intent = await api.create_async({"amount": 700, "currency": "usd"})
    asked = await api.confirm_async(intent.id, {"payment_method": "pm_usBankAccount_success"})
    assert asked.status == "processing"
    await sandbox.control("POST", "/clock", {"advance_seconds": 60})
    assert (await api.retrieve_async(intent.id)).status == "succeeded"


async def test_metadata_of_a_session_reaches_intent_and_charge(sandbox: Served) -> None:
    charge = await sandbox.paid()
    assert charge.metadata.to_dict() == {"order_id": "o1"}


async def test_the_balance_transaction_comes_after_the_charge(sandbox: Served) -> None:
    await sandbox.control("PUT", "/settings", {"balance_transaction_delay": 60})
    charge = await sandbox.paid()
    assert charge.balance_transaction is None
    await sandbox.control("POST", "/clock", {"advance_seconds": 60})
    charge = await sandbox.client.v1.charges.retrieve_async(charge.id, {"expand": ["balance_transaction"]})
    assert isinstance(charge.balance_transaction, stripe.BalanceTransaction)
    assert charge.balance_transaction.net == 4096
    assert (await sandbox.event_types())[-1] == "charge.updated"


async def test_money_is_pending_until_its_day(sandbox: Served) -> None:
    await sandbox.paid()
    await sandbox.control("POST", "/clock", {"advance_seconds": 2 * 86400 + 1})
    balance = await sandbox.client.v1.balance.retrieve_async()
    assert [part.amount for part in balance.available] == [4096]
    assert [part.amount for part in balance.pending] == [0]
    (dumped,) = await sandbox.control("GET", "/balance_transactions")
    assert (dumped["net"], dumped["status"]) == (4096, "available")


async def test_an_open_session_expires_with_the_clock(sandbox: Served) -> None:
    session = await sandbox.checkout(expires_at=int(time.time()) + 1860)
    await sandbox.pay(session.id, DECLINED)
    await sandbox.control("POST", "/clock", {"advance_seconds": 1861})
    found = await sandbox.client.v1.checkout.sessions.retrieve_async(session.id, {"expand": ["payment_intent"]})
    assert isinstance(found.payment_intent, stripe.PaymentIntent)
    assert (found.status, found.payment_intent.status) == ("expired", "canceled")
    assert (await sandbox.event_types())[-1] == "checkout.session.expired"
    assert (await sandbox.pay(session.id))["error"]["type"] == "invalid_request_error"


async def test_sessions_can_still_be_opened_after_the_clock_was_moved(sandbox: Served) -> None:
    await sandbox.control("POST", "/clock", {"advance_seconds": 86400})
    session = await sandbox.checkout(expires_at=int(time.time()) + 1860)
    assert session.status == "open"


async def test_the_clock_of_one_account_is_not_that_of_another(sandbox: Served) -> None:
    session = await sandbox.checkout(expires_at=int(time.time()) + 1860)
    await sandbox.control("POST", "/clock", {"advance_seconds": 3600}, key="sk_test_other")
    found = await sandbox.client.v1.checkout.sessions.retrieve_async(session.id)
    assert found.status == "open"


async def test_an_expired_session_can_be_paid_late_on_request(sandbox: Served) -> None:
    session = await sandbox.checkout()
    await sandbox.control("POST", f"/checkout/{session.id}/expire")
    paid = await sandbox.pay(session.id, late=True)
    assert (paid["status"], paid["payment_status"]) == ("complete", "paid")


async def test_a_duplicate_session_takes_a_second_payment_for_the_same_order(sandbox: Served) -> None:
    session = await sandbox.checkout()
    await sandbox.pay(session.id)
    second = await sandbox.control("POST", f"/checkout/{session.id}/duplicate")
    paid = await sandbox.pay(second["id"])
    found = await sandbox.client.v1.checkout.sessions.retrieve_async(second["id"])
    assert (paid["outcome"], found.client_reference_id, found.id == session.id) == ("succeeded", "o1", False)


async def test_a_payment_of_another_sum_can_be_forged(sandbox: Served) -> None:
    session = await sandbox.checkout()
    paid = await sandbox.pay(session.id, amount=100, currency="eur")
    charge = await sandbox.client.v1.charges.retrieve_async(paid["charge"])
    found = await sandbox.client.v1.checkout.sessions.retrieve_async(session.id)
    assert (charge.amount, charge.currency, found.amount_total) == (100, "eur", 100)


async def test_only_an_open_session_can_be_expired(sandbox: Served) -> None:
    session = await sandbox.checkout()
    await sandbox.pay(session.id)
    with pytest.raises(stripe.InvalidRequestError, match="status of `complete`"):
        await sandbox.client.v1.checkout.sessions.expire_async(session.id)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"line_items": []}, "parameter_missing", "line_items"),
        ({"nonsense": "1"}, "parameter_unknown", "nonsense"),
        ({"line_items": [line("A", 100) | {"color": "red"}]}, "parameter_unknown", "line_items[0][color]"),
        (
            {"line_items": [{"quantity": 1, "price_data": {"unit_amount": 100, "product_data": {"name": "A"}}}]},
            "parameter_missing",
            "line_items[0][price_data][currency]",
        ),
        ({"expires_at": "soon"}, "parameter_invalid_integer", "expires_at"),
        ({"expires_at": ""}, "parameter_invalid_empty", "expires_at"),
        ({"expires_at": 1}, None, "expires_at"),
        ({"line_items": [line("A", 10)]}, "amount_too_small", "line_items"),
        ({"success_url": "ftp://x"}, "url_invalid", "success_url"),
        ({"customer": "cus_nobody"}, "resource_missing", "customer"),
        ({"customer_email": "mina"}, "email_invalid", "customer_email"),
        ({"client_reference_id": ""}, "parameter_invalid_empty", "client_reference_id"),
        ({"mode": "gift"}, None, "mode"),
        ({"line_items": [line("A", 100)] * 101}, None, "line_items"),
        ({"line_items": [line("A", 100, "zzz")]}, None, "currency"),
        ({"currency": "eur"}, None, "currency"),
        ({"customer_creation": "always"}, None, "customer_creation"),
        ({"payment_intent_data": {"capture_method": "manual"}}, None, "payment_intent_data[capture_method]"),
        ({"line_items": [TAXED]}, None, "line_items[0][price_data][product_data][tax_code]"),
    ],
)
async def test_bad_parameters_are_refused_in_stripes_words(
    sandbox: Served, changes: dict[str, Any], code: str | None, param: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await sandbox.checkout(**changes)
    assert (refusal.value.code, refusal.value.param) == (code, param)


@pytest.mark.parametrize("operation", sorted(HANDLERS), ids=" ".join)
def test_a_parameter_is_acted_on_or_refused_by_name(operation: tuple[str, str]) -> None:
    _, takes = HANDLERS[operation]
    names = schema.resolve(schema.parameters(*operation)).get("properties", {}).keys()
    assert takes <= names
    for name in names - takes - {"expand"}:
        with pytest.raises(StripeError, match=f"The sandbox does not support {name}"):
            compile_params(*operation, takes)({name: ""}, "")


async def test_a_session_lives_for_half_an_hour_at_least(sandbox: Served) -> None:
    now = int(time.time())
    with pytest.raises(stripe.InvalidRequestError, match="at least 30 minutes"):
        await sandbox.checkout(expires_at=now + 1799)
    assert (await sandbox.checkout(expires_at=now + 1860)).status == "open"


async def test_an_emptied_value_is_unset(sandbox: Served) -> None:
    products = sandbox.client.v1.products
    product = await products.create_async({"name": "Course", "description": "d", "images": ["i"], "unit_label": "seat"})
    await products.update_async(product.id, {"description": "", "images": "", "unit_label": "", "metadata": ""})
    found = await products.retrieve_async(product.id)
    assert (found.description, found.images, found.unit_label) == (None, [], None)
    intents = sandbox.client.v1.payment_intents
    intent = await intents.create_async({"amount": 700, "currency": "usd", "receipt_email": "mina@example.com"})
    assert (await intents.update_async(intent.id, {"receipt_email": ""})).receipt_email is None
    price = await sandbox.client.v1.prices.create_async({"currency": "usd", "unit_amount": 9, "product": product.id})
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await sandbox.client.v1.prices.update_async(price.id, {"nickname": ""})
    assert refusal.value.code == "parameter_invalid_empty"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/customers", b"name=\xff", 400),
        ("POST", "/v1/checkout/sessions", "line_items[²][quantity]=1".encode(), 400),
        ("GET", "/v1/charges?created[gte]=99999999999999999999", b"", 400),
        ("GET", "/v1/charges?starting_after=ch_1&ending_before=ch_2", b"", 400),
    ],
)
async def test_what_cannot_be_read_is_refused(
    sandbox: Served, method: str, path: str, body: bytes, status: int
) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/x-www-form-urlencoded"}
    async with sandbox.http.request(method, f"{sandbox.url}{path}", data=body or None, headers=headers) as response:
        assert response.status == status
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_lines_of_a_session_are_paged(sandbox: Served) -> None:
    session = await sandbox.checkout(line_items=[line(name, 100) for name in "ABCD"])
    api = sandbox.client.v1.checkout.sessions.line_items

    async def page(**params: Any) -> tuple[list[str | None], bool]:
        found = await api.list_async(session.id, cast(Any, params))
        return [item.description for item in found.data], found.has_more

    ids = [item.id for item in (await api.list_async(session.id)).data]
    assert await page(limit=3) == (["A", "B", "C"], True)
    assert await page(limit=3, starting_after=ids[2]) == (["D"], False)
    assert await page(limit=2, ending_before=ids[3]) == (["B", "C"], True)
    for wrong in ({"limit": 1000}, {"starting_after": ids[0], "ending_before": ids[3]}, {"starting_after": "li_1"}):
        with pytest.raises(stripe.InvalidRequestError):
            await page(**wrong)


async def test_refunds_stop_at_what_is_left_of_the_charge(sandbox: Served) -> None:
    charge = await sandbox.paid()
    refunds = sandbox.client.v1.refunds
    await refunds.create_async({"charge": charge.id, "amount": 4000})
    with pytest.raises(stripe.InvalidRequestError, match=r"\$2\.50.*\$2\.49"):
        await refunds.create_async({"charge": charge.id, "amount": 250})
    rest = await refunds.create_async({"payment_intent": str(charge.payment_intent)})
    assert rest.amount == 249
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await refunds.create_async({"charge": charge.id})
    assert refusal.value.code == "charge_already_refunded"
    dumped = await sandbox.control("GET", "/balance_transactions")
    assert [entry["net"] for entry in dumped] == [4096, -4000, -249]


async def test_a_refund_settles_its_charge_first(sandbox: Served) -> None:
    await sandbox.control("PUT", "/settings", {"balance_transaction_delay": 3600})
    charge = await sandbox.paid()
    await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    dumped = await sandbox.control("GET", "/balance_transactions")
    assert [(entry["type"], entry["net"]) for entry in dumped] == [("charge", 4096), ("refund", -4249)]


async def test_a_refund_may_fail_days_after_it_succeeded(sandbox: Served) -> None:
    charge = await sandbox.paid("4000000000005126")
    refund = await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    assert refund.status == "succeeded"
    await sandbox.control("POST", "/clock", {"advance_seconds": 5})
    failed = await sandbox.client.v1.refunds.retrieve_async(refund.id, {"expand": ["failure_balance_transaction"]})
    assert isinstance(failed.failure_balance_transaction, stripe.BalanceTransaction)
    assert (failed.status, failed.failure_balance_transaction.net) == ("failed", 4249)
    assert (await sandbox.client.v1.charges.retrieve_async(charge.id)).amount_refunded == 0
    assert (await sandbox.event_types())[-3:] == ["refund.failed", "refund.updated", "charge.refund.updated"]


async def test_a_refund_fails_once(sandbox: Served) -> None:
    charge = await sandbox.paid()
    refund = await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    await sandbox.control("POST", f"/refunds/{refund.id}", {"status": "failed"})
    for status in ("failed", "requires_action"):
        again = await sandbox.control("POST", f"/refunds/{refund.id}", {"status": status})
        assert again["error"]["message"] == "This refund has a status of failed, which is its last."
    assert (await sandbox.client.v1.charges.retrieve_async(charge.id)).amount_refunded == 0


async def test_a_pending_refund_succeeds_later(sandbox: Served) -> None:
    charge = await sandbox.paid("4000000000007726")
    refund = await sandbox.client.v1.refunds.create_async({"charge": charge.id})
    assert refund.status == "pending"
    await sandbox.control("POST", "/clock", {"advance_seconds": 5})
    assert (await sandbox.client.v1.refunds.retrieve_async(refund.id)).status == "succeeded"


async def test_lists_are_paged_newest_first(sandbox: Served) -> None:
    made = [(await sandbox.checkout()).id for _ in range(5)]
    api = sandbox.client.v1.checkout.sessions
    first = await api.list_async({"limit": 2})
    rest = await api.list_async({"limit": 100, "starting_after": first.data[-1].id})
    assert [one.id for one in [*first.data, *rest.data]] == made[::-1]
    assert (first.has_more, rest.has_more) == (True, False)
    back = await api.list_async({"limit": 2, "ending_before": rest.data[1].id})
    assert [one.id for one in back.data] == [made[3], made[2]]
    assert back.has_more is True
    assert (await api.list_async({"created": {"gt": int(time.time()) + 60}})).data == []


async def test_accounts_do_not_see_each_other(sandbox: Served) -> None:
    session = await sandbox.checkout()
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        await sandbox.client.v1.checkout.sessions.retrieve_async(session.id, options={"api_key": "sk_test_other"})
    assert refusal.value.code == "resource_missing"


@pytest.mark.parametrize("authorization", [None, "Bearer sk_live_123456789", "Bearer pk_test_1", "Basic a"])
async def test_a_missing_or_foreign_key_is_refused(sandbox: Served, authorization: str | None) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    async with sandbox.http.get(f"{sandbox.url}/v1/refunds", headers=headers) as response:
        assert response.status == 401
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_what_the_sandbox_does_not_offer_is_an_unknown_url(sandbox: Served) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with sandbox.http.post(f"{sandbox.url}/v1/transfers", headers=headers) as response:
        assert response.status == 404
        assert (await response.json())["error"]["message"] == "Unrecognized request URL (POST: /v1/transfers)."


@pytest.mark.parametrize("card", [OK, SECURE])
async def test_paying_twice_charges_once(sandbox: Served, card: str) -> None:
    session = await sandbox.checkout()
    await sandbox.pay(session.id, card, authenticate=True)
    again = await sandbox.pay(session.id, card, authenticate=True)
    assert again["error"]["message"] == "This Checkout Session is complete and cannot be paid."
    assert len((await sandbox.client.v1.charges.list_async()).data) == 1
