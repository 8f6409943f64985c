"""Operators sign in at the codec server; nobody else reads a payload."""

import base64
from collections.abc import AsyncIterator

import httpx2
import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from core.codec import KeyringCodec
from core.codec_server import create_app
from core.settings import Settings

KEYRING = "k1:" + base64.b64encode(bytes(32)).decode()
UI = "http://127.0.0.1:8233"


def configured(environment: str = "test", **server: object) -> Settings:
    return Settings.model_validate(
        {
            "environment": environment,
            "temporal": {"codec_keys": KEYRING, "ui_url": UI},
            "codec_server": {"token": "open sesame", **server},
        }
    )


def browsing(settings: Settings, origin: str = UI) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(create_app(settings))
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"Origin": origin})


@pytest.fixture
def browser() -> httpx2.AsyncClient:
    return browsing(configured())


async def encrypted(text: bytes) -> str:
    payloads = await KeyringCodec.parse(KEYRING).encode([Payload(data=text)])
    return json_format.MessageToJson(Payloads(payloads=payloads))


async def test_the_page_asks_for_the_operators_token(browser: httpx2.AsyncClient) -> None:
    page = await browser.get("/")
    assert page.status_code == 200
    assert "Sign in to read payloads in the Temporal UI." in page.text


async def test_a_stranger_decrypts_nothing(browser: httpx2.AsyncClient) -> None:
    assert (await browser.post("/decode", content=await encrypted(b"secret"))).status_code == 401


async def test_a_wrong_token_does_not_sign_in(browser: httpx2.AsyncClient) -> None:
    answer = await browser.post("/", data={"token": "open barley"})
    assert (answer.status_code, answer.cookies) == (401, httpx2.Cookies())


async def test_an_operator_reads_payloads_after_signing_in(browser: httpx2.AsyncClient) -> None:
    assert (await browser.post("/", data={"token": "open sesame"})).status_code == 303
    assert "You are signed in." in (await browser.get("/")).text
    answer = await browser.post("/decode", content=await encrypted(b"secret"))
    assert answer.headers["access-control-allow-origin"] == UI
    [payload] = json_format.Parse(answer.content, Payloads()).payloads
    assert payload.data == b"secret"


@pytest.mark.parametrize(("origin", "secure"), [("https://temporal.example", True), (UI, False)])
async def test_the_sign_in_stays_in_this_browser(origin: str, *, secure: bool) -> None:
    browser = browsing(configured(ui_origin=origin), origin)
    cookie = (await browser.post("/", data={"token": "open sesame"})).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert ("Secure" in cookie.split("; ")) is secure


async def test_only_a_short_form_is_read(browser: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await browser.post("/", data={"token": "x" * 4096})).status_code == 413
    assert (await browser.post("/", content=endless(), headers=headers)).status_code == 413


async def test_every_answer_carries_the_security_headers_and_the_ui_may_still_ask(browser: httpx2.AsyncClient) -> None:
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-namespace"}
    answers = [
        await browser.get("/"),
        await browser.post("/", data={"token": "open barley"}),
        await browser.post("/", data={"token": "open sesame"}),
        await browser.post("/decode", content=await encrypted(b"secret")),
        await browser.options("/decode", headers=preflight),
        await browser.get("/nowhere"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 303, 200, 200, 404]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["access-control-allow-origin"] == UI
        assert answer.headers["access-control-allow-credentials"] == "true"


async def test_on_one_machine_the_ui_reads_without_signing_in() -> None:
    settings = configured(local=True)
    content = await encrypted(b"secret")
    assert (await browsing(settings).post("/decode", content=content)).status_code == 200
    assert (await browsing(settings, "http://evil.example").post("/decode", content=content)).status_code == 401


@pytest.mark.parametrize(("environment", "host"), [("production", "127.0.0.1"), ("development", "10.0.0.5")])
def test_reading_without_signing_in_is_refused_where_strangers_come_by(environment: str, host: str) -> None:
    with pytest.raises(ValueError, match="LYCEUM_CODEC_SERVER__LOCAL"):
        create_app(configured(environment, local=True, host=host))
