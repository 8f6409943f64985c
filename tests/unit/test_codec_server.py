"""Operators sign in at the codec server; nobody else reads a payload."""

import base64

import httpx2
import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from core.codec import KeyringCodec
from core.codec_server import create_app
from core.settings import Settings

KEYRING = "k1:" + base64.b64encode(bytes(32)).decode()
UI = "http://127.0.0.1:8233"


@pytest.fixture
def browser() -> httpx2.AsyncClient:
    settings = Settings.model_validate(
        {"temporal": {"codec_keys": KEYRING, "ui_url": UI}, "codec_server": {"token": "open sesame"}}
    )
    transport = httpx2.ASGITransport(create_app(settings))
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers={"Origin": UI})


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
