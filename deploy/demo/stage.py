"""What the people of the demo use: the public API, a browser, a mailbox. Nothing here knows the inside."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, TypeVar
from urllib.parse import urljoin

import httpx2

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds a step waits for what it expects."""


class StepFailed(Exception):
    """The platform did not do what the story promises; the message says what was expected and what came."""


def check(condition: object, expectation: str) -> None:
    """Raises `StepFailed` unless `condition` holds."""
    if not condition:
        raise StepFailed(f"expected: {expectation}")


async def until(what: str, probe: Callable[[], Awaitable[T | None]], patience: float = PATIENCE) -> T:
    """The first answer of `probe` that is neither None nor empty. Raises `StepFailed` after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        answer = await probe()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise StepFailed(f"waited {patience:.0f} s in vain for {what}")
        await asyncio.sleep(0.1)


class _FirstForm(HTMLParser):
    """Finds the first form of a page, its named fields with their values, and the page's text."""

    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}
        self.words: list[str] = []
        self._inside = self._finished = self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self._hidden = self._hidden or tag in ("style", "script")
        if tag == "form" and not self._finished:
            self.action, self._inside = attributes.get("action") or "", True
        elif self._inside and tag in ("input", "button") and (name := attributes.get("name")):
            self.fields.setdefault(name, attributes.get("value") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._hidden = False
        elif tag == "form" and self._inside:
            self._inside, self._finished = False, True

    def handle_data(self, data: str) -> None:
        if not self._hidden and data.strip():
            self.words.append(data.strip())


@dataclass(frozen=True, slots=True)
class Page:
    """A web page as a person sees it. `fields` are what its form already holds."""

    url: str
    status: int
    text: str
    action: str | None
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Browser:
    """Opens pages and submits their form. Does not follow a redirect that leaves for another site."""

    http: httpx2.AsyncClient

    async def open(self, url: str) -> Page:
        return _page(await self.http.get(url))

    async def submit(self, page: Page, **filled: str) -> Page:
        """Fills in the page's form and sends it. Every field named has to be there."""
        missing = filled.keys() - page.fields.keys()
        if page.action is None or missing:
            raise StepFailed(f"{page.url} has no form with {', '.join(sorted(missing)) or 'anything to send'}")
        return _page(await self.http.post(urljoin(page.url, page.action), data={**page.fields, **filled}))


def _page(response: httpx2.Response) -> Page:
    if response.is_redirect:
        return Page(response.headers["location"], response.status_code, "", None, {})
    form = _FirstForm()
    form.feed(response.text)
    return Page(str(response.url), response.status_code, " ".join(form.words), form.action, form.fields)


@dataclass(slots=True)
class Stage:
    """Where the story happens. `run` makes this run's e-mail addresses unlike any other's."""

    api: str
    stripe: str
    mail: str
    run: str
    password: str
    http: httpx2.AsyncClient
    browser: Browser = field(init=False)

    def __post_init__(self) -> None:
        self.browser = Browser(self.http)

    async def call(
        self, method: str, path: str, *, expect: int | tuple[int, ...] = 200, token: str = "", **content: Any
    ) -> Any:
        """One request to the API. Raises `StepFailed` with the problem's own words for any other status."""
        headers = content.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        response = await self.http.request(method, f"{self.api}/v1{path}", headers=headers, **content)
        expected = (expect,) if isinstance(expect, int) else expect
        if response.status_code not in expected:
            raise StepFailed(
                f"{method} {path} answered {response.status_code} instead of {expected}: {_words(response)}"
            )
        return response.json() if response.content else None

    async def mails(self, to: str, about: str = "") -> list[dict[str, str]]:
        """What the mail catcher has for an address, oldest first, with `about` in the subject or text."""
        response = await self.http.get(f"{self.mail}/api/messages", params={"to": to})
        return [mail for mail in response.raise_for_status().json() if about in mail["subject"] + mail["text"]]

    async def move_clock(self, seconds: int) -> None:
        """Lets time pass at Stripe."""
        response = await self.http.post(f"{self.stripe}/_sandbox/clock", json={"advance_seconds": seconds})
        check(response.is_success, f"the sandbox's clock can be moved, not: {response.text}")


def _words(response: httpx2.Response) -> str:
    try:
        problem = response.json()
    except ValueError:
        return response.text[:300]
    reasons = [f"{error['field']}: {error['message']}" for error in problem.get("errors") or []]
    return " ".join([str(problem.get("title", "")), str(problem.get("detail", "")), *reasons]).strip()


@dataclass(slots=True)
class Person:
    """Somebody with an account, signed in."""

    stage: Stage
    name: str
    email: str
    token: str

    @property
    def first_name(self) -> str:
        return self.name.split()[0]

    @classmethod
    async def arrive(cls, stage: Stage, name: str, email: str) -> "Person":
        """Registers, opens the link in the mail, confirms the address and signs in."""
        account = {"email": email, "password": stage.password, "name": name}
        await stage.call("POST", "/auth/register", json=account, expect=201)
        mails = await until(f"the mail that confirms {email}", lambda: stage.mails(email, "http"))
        page = await stage.browser.submit(await stage.browser.open(_link(mails[-1]["text"])))
        check(page.status == 200, f"the link in the mail confirms {email}, not {page.status}: {page.text}")
        return await cls.sign_in(stage, name, email)

    @classmethod
    async def sign_in(cls, stage: Stage, name: str, email: str) -> "Person":
        tokens = await stage.call("POST", "/auth/login", json={"email": email, "password": stage.password})
        return cls(stage, name, email, tokens["access_token"])

    async def get(self, path: str, **content: Any) -> Any:
        return await self.stage.call("GET", path, token=self.token, **content)

    async def post(self, path: str, json: object = None, *, expect: int | tuple[int, ...] = 200, **content: Any) -> Any:
        return await self.stage.call("POST", path, token=self.token, json=json, expect=expect, **content)

    async def delete(self, path: str) -> None:
        await self.stage.call("DELETE", path, token=self.token, expect=204)


def _link(text: str) -> str:
    for word in text.split():
        if word.startswith(("http://", "https://")):
            return word
    raise StepFailed("the mail holds no link")


@asynccontextmanager
async def open_stage(*, api: str, stripe: str, mail: str, run: str, password: str) -> AsyncIterator[Stage]:
    """A stage whose connections are closed afterwards. Proxies of the environment do not apply to loopback."""
    async with httpx2.AsyncClient(timeout=40.0, trust_env=False) as http:
        yield Stage(api=api, stripe=stripe, mail=mail, run=run, password=password, http=http)
