"""Body, header and time limits, request ids, the headers every answer carries, and life without the servers behind."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from fastapi import BackgroundTasks, Request
from pydantic import SecretStr
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.container import AppContainer
from api.middleware import Guard
from core.cache import Cache
from core.settings import Settings
from services.access import TTL
from tests.api.conftest import MakeAccount, serving

NOWHERE = "127.0.0.1:1"
WENT_ON: list[str] = []
DEADLINE = 1.0


def changed(settings: Settings, section: str, **values: Any) -> Settings:
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


@pytest.fixture(scope="module")
async def small(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """An application with tight limits, but for time, and routes that test them."""
    tight = changed(
        settings,
        "api",
        max_body=1000,
        max_header=600,
        cors_origins="https://app.example, https://admin.example",
        public_url="https://api.example",
    )
    async with serving(tight) as (app, client):

        @app.post("/echo")
        async def echo(request: Request) -> int:
            return len(await request.body())

        @app.post("/parsed")
        async def parsed(body: dict[str, str]) -> int:
            return len(body)

        yield client


@pytest.fixture(scope="module")
async def hasty(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    """An application that gives requests up soon and routes that take longer."""
    async with serving(changed(settings, "api", request_timeout=DEADLINE)) as (app, client):

        @app.get("/hang")
        async def hang() -> None:
            await asyncio.Event().wait()

        @app.get("/goes-on")
        async def goes_on(background: BackgroundTasks) -> str:
            async def beyond_the_deadline() -> None:
                await asyncio.wait({asyncio.ensure_future(asyncio.Event().wait())}, timeout=DEADLINE * 1.5)
                WENT_ON.append("to its end")

            background.add_task(beyond_the_deadline)
            return "answered"

        @app.get("/stall")
        async def stall() -> StreamingResponse:
            async def parts() -> AsyncIterator[bytes]:
                yield b"first"
                await asyncio.Event().wait()

            return StreamingResponse(parts())

        yield client


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 100):
        yield b"x" * 100


async def test_a_body_up_to_the_limit_passes_and_one_byte_more_does_not(small: httpx2.AsyncClient) -> None:
    fits = await small.post("/echo", content=b"x" * 1000)
    assert (fits.status_code, fits.json()) == (200, 1000)
    over = await small.post("/echo", content=b"x" * 1001)
    assert (over.status_code, over.json()["code"]) == (413, "BodyTooLarge")
    assert over.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/echo", "/parsed"])
async def test_a_body_without_a_declared_length_is_counted(small: httpx2.AsyncClient, path: str) -> None:
    headers = {"content-type": "application/json"}
    over = await small.post(path, content=_chunks(1100), headers=headers)
    assert (over.status_code, over.json()["code"]) == (413, "BodyTooLarge")


async def test_headers_beyond_the_limit_are_refused(small: httpx2.AsyncClient) -> None:
    answer = await small.get("/healthz", headers={"X-Filler": "x" * 600})
    assert (answer.status_code, answer.json()["code"]) == (431, "HeadersTooLarge")


async def test_a_request_that_takes_too_long_is_given_up(hasty: httpx2.AsyncClient) -> None:
    answer = await hasty.get("/hang")
    assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")
    assert answer.headers["retry-after"] == "5"


async def test_what_goes_on_after_the_answer_is_neither_timed_nor_cut_off(hasty: httpx2.AsyncClient) -> None:
    assert (await hasty.get("/goes-on")).json() == "answered"
    page = (await hasty.get("/metrics")).text
    [seconds] = re.findall(r'lyceum_http_request_seconds_sum\{method="GET",route="/goes-on"\} (\S+)', page)
    assert float(seconds) < DEADLINE
    assert WENT_ON == ["to its end"]


async def test_requests_beyond_the_limit_are_refused_and_probes_are_not() -> None:
    running, finish = asyncio.Semaphore(0), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            running.release()
            await finish.wait()
        await PlainTextResponse("done")(scope, receive, send)

    guard = Guard(app, max_body=100, max_header=1000, timeout=30, max_running=2)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(guard), base_url="http://api.test") as client:
        slow = [asyncio.create_task(client.get("/slow")) for _ in range(2)]
        for _ in slow:
            await running.acquire()
        refused = await client.get("/quick")
        assert (refused.status_code, refused.json()["code"]) == (503, "ServiceUnavailable")
        assert refused.headers["retry-after"] == "5"
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        finish.set()
        assert [(await answer).status_code for answer in slow] == [200, 200]
        assert (await client.get("/quick")).status_code == 200


async def test_an_answer_that_stalls_is_cut_off_instead_of_ended(hasty: httpx2.AsyncClient) -> None:
    with pytest.raises(TimeoutError):
        await hasty.get("/stall")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("client-id.42_x", True),
        ("0197c3a0-0000-7000-8000-000000000000", True),
        ("short", False),
        ("x" * 65, False),
        ("with spaces in it", False),
        ('quote"quote"', False),
    ],
)
async def test_a_sane_request_id_comes_back_and_another_is_replaced(
    client: httpx2.AsyncClient, given: str, kept: bool
) -> None:
    answer = await client.get("/healthz", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert len(answer.headers["x-request-id"]) >= 8


async def test_every_answer_carries_the_security_headers(small: httpx2.AsyncClient) -> None:
    for path in ("/healthz", "/v1/nowhere", "/v1/me"):
        headers = (await small.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["cache-control"] == "no-store"
        assert headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
        assert "server" not in headers


async def test_transport_security_is_announced_on_https_only(client: httpx2.AsyncClient) -> None:
    assert "strict-transport-security" not in (await client.get("/healthz")).headers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://app.example", True), ("https://admin.example", True), ("https://evil.example", False)],
)
async def test_browsers_of_listed_origins_only_may_call(small: httpx2.AsyncClient, origin: str, allowed: bool) -> None:
    preflight = await small.options(
        "/v1/me",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,idempotency-key",
        },
    )
    answer = await small.get("/healthz", headers={"Origin": origin})
    assert preflight.status_code == (200 if allowed else 400)
    for response in (preflight, answer):
        assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
        assert "access-control-allow-credentials" not in response.headers


async def test_metrics_count_requests_by_route_template(client: httpx2.AsyncClient, make_account: MakeAccount) -> None:
    account = await make_account()
    await client.get("/v1/me", headers=account.headers)
    await client.get("/v1/courses/0197c3a0-0000-7000-8000-000000000000")
    await client.get("/v1/no/such/path")
    page = (await client.get("/metrics")).text
    assert 'lyceum_http_requests_total{method="GET",route="/v1/me",status="200"}' in page
    assert 'route="/v1/courses/{course_id}",status="404"' in page
    assert 'route="unmatched",status="404"' in page
    assert "0197c3a0" not in page


async def test_health_and_readiness(client: httpx2.AsyncClient) -> None:
    healthy, ready = await client.get("/healthz"), await client.get("/readyz")
    assert (healthy.status_code, healthy.json()) == (200, {"status": "ok"})
    assert ready.status_code == 200


WITHOUT: dict[str, Callable[[Settings], Settings]] = {
    "database": lambda s: changed(s, "database", url=SecretStr(f"postgresql+asyncpg://nobody:x@{NOWHERE}/none")),
    "cache": lambda s: changed(s, "redis", url=SecretStr(f"redis://{NOWHERE}/0")),
    "search": lambda s: changed(s, "opensearch", url=SecretStr(f"http://{NOWHERE}")),
    "object_storage": lambda s: changed(s, "s3", endpoint_url=f"http://{NOWHERE}"),
    "temporal": lambda s: changed(s, "temporal", address=NOWHERE),
}


@pytest.mark.parametrize("service", WITHOUT)
async def test_the_api_starts_without_a_service_and_says_so(settings: Settings, service: str) -> None:
    async with serving(WITHOUT[service](settings)) as (_, client):
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
    assert service in ready.json()["failing"]
    assert ready.status_code == (503 if service == "database" else 200)


@pytest.mark.parametrize(("environment", "keys"), [("production", ""), ("development", "k1:c2hvcnQ=")])
async def test_the_api_does_not_start_with_codec_keys_that_cannot_work(
    settings: Settings, environment: str, keys: str
) -> None:
    broken = changed(settings, "temporal", codec_keys=SecretStr(keys)).model_copy(update={"environment": environment})
    with pytest.raises(ValueError, match=r"CODEC_KEYS is required|codec key is written"):
        async with serving(broken):
            pass


@pytest.mark.parametrize("service", ["cache", "search", "object_storage", "temporal"])
async def test_accounts_work_without_any_other_service_than_the_database(
    settings: Settings, make_account: MakeAccount, service: str
) -> None:
    account = await make_account()
    async with serving(WITHOUT[service](settings)) as (_, client):
        for _ in range(2):
            assert (await client.get("/v1/me", headers=account.headers)).status_code == 200
        login = {"email": account.email, "password": "not the password"}
        assert (await client.post("/v1/auth/login", json=login)).status_code == 401
        refreshed = await client.post("/v1/auth/refresh", json={"refresh_token": account.refresh_token})
        assert refreshed.status_code == 200
        assert (await client.post("/v1/auth/logout", headers=account.headers)).status_code == 204
        assert (await client.get("/v1/me", headers=account.headers)).status_code == 401


async def test_without_the_cache_guessing_is_throttled_in_the_process(settings: Settings) -> None:
    strict = changed(WITHOUT["cache"](settings), "auth", login_attempts=3)
    async with serving(strict) as (_, client):
        body = {"email": "somebody@example.com", "password": "not the password"}
        statuses = [(await client.post("/v1/auth/login", json=body)).status_code for _ in range(4)]
    assert statuses == [401, 401, 401, 429]


async def test_without_the_database_the_answer_is_503(settings: Settings, make_account: MakeAccount) -> None:
    account = await make_account()
    nothing = WITHOUT["cache"](WITHOUT["database"](settings))
    async with serving(nothing) as (_, client):
        login = await client.post("/v1/auth/login", json={"email": account.email, "password": "x"})
        me = await client.get("/v1/me", headers=account.headers)
        stranger = await client.get("/v1/me")
    for answer in (login, me):
        assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"] == "5"
    assert stranger.status_code == 401


async def test_a_session_ended_while_its_reader_was_under_way_stays_ended(
    settings: Settings, client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    """The reader saw the session alive, then it was ended, then the reader stores what it saw."""
    account = await make_account()
    async with serving(settings) as (app, _):
        container: AppContainer = app.state.container
        access = container.access
        alive = await access.principal(account.user_id, account.session_id)
        assert alive is not None
        await client.post("/v1/auth/logout", headers=account.headers)
        late = Cache(container.redis, settings.redis.prefix, "session", ttl=TTL)
        await late.fill(str(account.session_id), json.dumps([str(account.user_id), ["admin"]]).encode())
        assert await access.principal(account.user_id, account.session_id) is None
