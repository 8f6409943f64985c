"""The payment page, used as a browser uses it."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.integration.stripe_sandbox import DECLINED, OK, SECURE, Served, line, serve
from tests.support.sandbox import PAYS_LATER

FORM = {"email": "mina@example.com", "expiry": "12 / 40", "cvc": "123", "name": "Mina K"}


@dataclass
class Answer:
    status: int
    location: str | None
    html: str


@pytest.fixture
async def sandbox() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def _get(sandbox: Served, url: str) -> Answer:
    async with sandbox.http.get(url, allow_redirects=False) as response:
        return Answer(response.status, response.headers.get("Location"), await response.text())


async def _post(sandbox: Served, url: str, **form: str) -> Answer:
    async with sandbox.http.post(url, data=form, allow_redirects=False) as response:
        return Answer(response.status, response.headers.get("Location"), await response.text())


async def _open(sandbox: Served) -> str:
    lines = [line("Rust & <Safety>", 4249), line("Drawing", 1000, quantity=2)]
    session = await sandbox.checkout(line_items=lines, customer_email="mina@example.com")
    url = f"{sandbox.url}/c/pay/{session.id}"
    assert session.url == url
    return url


async def test_the_page_shows_what_is_bought_for_how_much(sandbox: Served) -> None:
    page = await _get(sandbox, await _open(sandbox))
    assert page.status == 200
    for text in ("Rust &amp; &lt;Safety&gt;", "$42.49", "2 × $10.00", "Pay $62.49", 'value="mina@example.com"'):
        assert text in page.html


async def test_a_good_card_leads_back_to_the_shop(sandbox: Served) -> None:
    url = await _open(sandbox)
    paid = await _post(sandbox, url, card="4242 4242 4242 4242", **FORM)
    session_id = url.rpartition("/")[2]
    assert (paid.status, paid.location) == (303, f"http://127.0.0.1:1/done?session={session_id}")
    session = await sandbox.client.v1.checkout.sessions.retrieve_async(session_id)
    assert session.payment_status == "paid"
    assert session.customer_details is not None
    assert (session.customer_details.email, session.customer_details.name) == ("mina@example.com", "Mina K")
    again = await _post(sandbox, url, card=OK, **FORM)
    assert (again.status, "This order is paid" in again.html) == (200, True)
    assert len((await sandbox.client.v1.charges.list_async()).data) == 1


async def test_a_bank_account_leads_back_to_the_shop_before_it_pays(sandbox: Served) -> None:
    url = await _open(sandbox)
    asked = await _post(sandbox, url, card=PAYS_LATER, **FORM)
    assert (asked.status, "/done?session=" in str(asked.location)) == (303, True)
    assert "This payment is submitted" in (await _get(sandbox, url)).html
    assert '<span class="state complete">complete</span>' in (await _get(sandbox, f"{sandbox.url}/")).html
    await sandbox.control("POST", "/clock", {"advance_seconds": 180})
    assert "This order is paid" in (await _get(sandbox, url)).html
    assert '<span class="state paid">paid</span>' in (await _get(sandbox, f"{sandbox.url}/")).html


async def test_a_decline_is_explained_and_keeps_what_was_typed(sandbox: Served) -> None:
    page = await _post(sandbox, await _open(sandbox), card=DECLINED, **FORM)
    assert page.status == 402
    assert '<div class="alert" role="alert">Your card was declined.</div>' in page.html
    assert 'value="Mina K"' in page.html
    assert DECLINED not in page.html


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("card", "4242", "Your card number is incomplete."),
        ("card", "4242424242424241", "Your card number is incorrect."),
        ("card", "4242 4242 4242 4243²", "Your card number is incorrect."),
        ("expiry", "13/40", "Enter the expiry date as MM / YY."),
        ("expiry", "01/20", "Your card&#39;s expiry date is in the past."),
        ("cvc", "12²", "Your card&#39;s security code is incomplete."),
        ("name", " ", "Enter the name on the card."),
        ("email", "mina@", "Enter the e-mail address for your receipt."),
    ],
)
async def test_mistakes_are_shown_at_their_field(sandbox: Served, field: str, value: str, message: str) -> None:
    page = await _post(sandbox, await _open(sandbox), **{"card": OK, **FORM, field: value})
    assert f'<p class="error" id="{field}-error">{message}</p>' in page.html
    assert f'aria-invalid="true" aria-describedby="{field}-error"' in page.html


async def test_3d_secure_asks_and_then_pays(sandbox: Served) -> None:
    url = await _open(sandbox)
    asked = await _post(sandbox, url, card=SECURE, **FORM)
    assert asked.location == f"/c/pay/{url.rpartition('/')[2]}/authenticate"
    question = await _get(sandbox, f"{url}/authenticate")
    assert "Complete authentication" in question.html
    failed = await _post(sandbox, f"{url}/authenticate", answer="fail")
    assert (failed.status, "unable to authenticate" in failed.html) == (402, True)
    assert (await _get(sandbox, f"{url}/authenticate")).location == url.removeprefix(sandbox.url)
    await _post(sandbox, url, card=SECURE, **FORM)
    passed = await _post(sandbox, f"{url}/authenticate", answer="complete")
    assert (passed.status, "/done?session=" in str(passed.location)) == (303, True)


async def test_an_expired_session_says_so_and_takes_no_money(sandbox: Served) -> None:
    url = await _open(sandbox)
    await sandbox.control("POST", f"/checkout/{url.rpartition('/')[2]}/expire")
    assert (await _get(sandbox, url)).status == 410
    page = await _post(sandbox, url, card=OK, **FORM)
    assert (page.status, "This payment page has expired" in page.html) == (410, True)
    assert (await sandbox.client.v1.charges.list_async()).data == []


async def test_an_unknown_link_is_a_page_too(sandbox: Served) -> None:
    page = await _get(sandbox, f"{sandbox.url}/c/pay/cs_test_nothing")
    assert (page.status, "Something is wrong with this link" in page.html) == (404, True)


async def test_the_front_page_leads_to_the_payment_pages(sandbox: Served) -> None:
    url = await _open(sandbox)
    front = await _get(sandbox, f"{sandbox.url}/")
    assert front.status == 200
    assert f'<a href="{url.removeprefix(sandbox.url)}">Rust &amp; &lt;Safety&gt;, Drawing</a>' in front.html
    assert "$62.49" in front.html


async def test_the_controls_load_nothing_from_elsewhere(sandbox: Served) -> None:
    controls = await _get(sandbox, f"{sandbox.url}/_sandbox/docs")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', controls.html)
    assert loaded
    for path in loaded:
        async with sandbox.http.get(f"{sandbox.url}{path}") as response:
            assert response.status == 200, path
