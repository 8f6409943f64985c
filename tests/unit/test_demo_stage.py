"""The demo's people: what they see of a web page, and how a promise that does not hold is reported."""

import io

import httpx2
import pytest
from rich.console import Console

from deploy.demo import report
from deploy.demo.stage import Browser, StepFailed, check, until
from deploy.demo.tale import Chapter, Tale

PAGE = """<!doctype html><style>p{color:red}</style><p>Pay <b>12.00</b></p>
<form method="post" action="/pay"><input type="hidden" name="token" value="t1"><input name="card"></form>
<form action="/other"><input name="coupon"></form>"""


def shop(request: httpx2.Request) -> httpx2.Response:
    """A page with two forms; it sends buyers on whose card is filled in."""
    if request.method == "GET":
        return httpx2.Response(200, html=PAGE)
    sent = dict(httpx2.QueryParams(request.content.decode()))
    if request.url.path == "/pay" and sent == {"token": "t1", "card": "42"}:
        return httpx2.Response(303, headers={"Location": "https://shop.example/thanks"})
    return httpx2.Response(402, html="<p>declined</p>")


@pytest.fixture
def browser() -> Browser:
    return Browser(httpx2.AsyncClient(transport=httpx2.MockTransport(shop), base_url="http://pay.example"))


async def test_a_page_is_its_words_and_its_first_form(browser: Browser) -> None:
    page = await browser.open("http://pay.example/")
    assert (page.text, page.action, page.fields) == ("Pay 12.00", "/pay", {"token": "t1", "card": ""})


async def test_a_form_is_sent_with_what_it_already_held(browser: Browser) -> None:
    page = await browser.submit(await browser.open("http://pay.example/"), card="42")
    assert (page.status, page.url) == (303, "https://shop.example/thanks")


async def test_a_field_that_is_not_there_cannot_be_filled_in(browser: Browser) -> None:
    page = await browser.open("http://pay.example/")
    with pytest.raises(StepFailed, match="coupon"):
        await browser.submit(page, coupon="FREE")


def test_a_promise_that_does_not_hold_is_named() -> None:
    with pytest.raises(StepFailed, match="expected: one enrollment, not 2"):
        check(False, "one enrollment, not 2")


async def test_waiting_ends_and_says_for_what() -> None:
    async def never() -> None:
        return None

    with pytest.raises(StepFailed, match="in vain for the mail"):
        await until("the mail", never, patience=0.0)


def test_the_report_of_a_broken_story_says_why_and_shows_no_success() -> None:
    tale = Tale(run="a1", chapters=[Chapter("First", 1.0, ["held"]), Chapter("Second", 0.5, error="no worker")])
    console = Console(file=io.StringIO(), record=True, width=100)
    report.show(tale, console)
    text = console.export_text()
    assert tale.failure == "no worker"
    assert "The story broke off after 1.5 s: no worker" in text
    assert "Every step held" not in text
