"""How refusals and failures look from outside."""

import errno
import socket
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
from asyncpg import DiskFullError, UniqueViolationError
from fastapi import FastAPI
from pydantic import Field
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.deps import ReadTx, Tx
from api.errors import outage
from api.idempotency import IdempotencyKey
from api.schemas.base import Id, RequestModel
from core.db import Database
from core.settings import Settings
from domain.errors import Conflict, DomainError, FieldError, Kind, ServiceUnavailable
from tests.api.conftest import serving


class _SeatUnavailable(Conflict):
    title = "No seat is left"


class _TooLarge(DomainError):
    kind = Kind.TOO_LARGE


class _Order(RequestModel):
    course_id: Id
    amount: Annotated[int, Field(ge=0)]


RAISED: dict[str, BaseException] = {}


def _add_routes(app: FastAPI) -> None:
    @app.get("/raise/{name}")
    async def raising(name: str) -> None:
        raise RAISED[name]

    @app.post("/orders")
    async def order(body: _Order, key: IdempotencyKey) -> dict[str, str]:
        return {"key": key}

    @app.post("/commit-fails")
    async def commit_fails(session: Tx) -> dict[str, str]:
        await session.execute(
            text("create temporary table t (id int unique deferrable initially deferred) on commit drop")
        )
        await session.execute(text("insert into t values (1), (1)"))
        return {"status": "committed"}

    @app.post("/write")
    async def write(session: Tx, email: str, *, fail: bool) -> dict[str, str]:
        await session.execute(
            text("insert into users (email, name, password_hash) values (:email, 'x', 'x')"), {"email": email}
        )
        if fail:
            raise _SeatUnavailable("All seats are taken.")
        return {"status": "written"}

    @app.post("/read-only")
    async def read_only(session: ReadTx) -> None:
        await session.execute(text("insert into users (email, name, password_hash) values ('a@b.example', 'x', 'x')"))

    @app.get("/store")
    async def store(session: ReadTx, value: str) -> None:
        await session.execute(text("select length(cast(:value as text))"), {"value": value})


@pytest.fixture(scope="module")
async def probe(settings: Settings) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(settings) as (app, client):
        _add_routes(app)
        yield client


async def test_a_refusal_is_a_problem_document(probe: httpx2.AsyncClient) -> None:
    RAISED["seat"] = _SeatUnavailable("All seats are taken.", errors=[FieldError("items.0", "is full", "full")])
    answer = await probe.get("/raise/seat", headers={"X-Request-ID": "my-request-1"})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:lyceum:problem:_SeatUnavailable",
        "title": "No seat is left",
        "status": 409,
        "detail": "All seats are taken.",
        "code": "_SeatUnavailable",
        "instance": "/raise/seat",
        "errors": [{"field": "items.0", "message": "is full", "code": "full"}],
        "request_id": "my-request-1",
    }


async def test_each_kind_of_refusal_has_its_status(probe: httpx2.AsyncClient) -> None:
    RAISED["large"] = _TooLarge("too large")
    RAISED["down"] = ServiceUnavailable("down")
    RAISED["later"] = ServiceUnavailable("down", retry_after=17)
    assert (await probe.get("/raise/large")).status_code == 413
    down, later = await probe.get("/raise/down"), await probe.get("/raise/later")
    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert (later.status_code, later.headers["retry-after"]) == (503, "17")


async def test_what_nobody_expected_is_a_500_that_tells_nothing(probe: httpx2.AsyncClient) -> None:
    RAISED["secret"] = RuntimeError("the password is hunter2")
    answer = await probe.get("/raise/secret")
    assert (answer.status_code, answer.json()["code"]) == (500, "InternalError")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert "hunter2" not in answer.text


_OUTAGES: dict[str, tuple[BaseException, str | None]] = {
    "pool": (PoolTimeout("pool"), "database"),
    "disk-full": (DBAPIError("insert", {}, DiskFullError()), "database"),
    "constraint": (DBAPIError("insert", {}, UniqueViolationError()), None),
    "refused": (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "backing service"),
    "several": (OSError("Multiple exceptions: [Errno 111] one, [Errno 111] two"), "backing service"),
    "name": (socket.gaierror(-2, "unknown name"), "backing service"),
    "slow": (TimeoutError(), "backing service"),
    "file": (FileNotFoundError(errno.ENOENT, "no such file"), None),
}


@pytest.mark.parametrize("name", _OUTAGES)
async def test_an_absent_backing_service_is_a_503_with_retry_after(probe: httpx2.AsyncClient, name: str) -> None:
    error, service = _OUTAGES[name]
    assert outage(error) == service
    RAISED[name] = error
    answer = await probe.get(f"/raise/{name}")
    if service is None:
        assert (answer.status_code, answer.json()["code"]) == (500, "InternalError")
    else:
        assert (answer.status_code, answer.json()["code"]) == (503, "ServiceUnavailable")
        assert answer.headers["retry-after"] == "5"


async def test_a_commit_that_fails_is_an_error_the_client_sees(probe: httpx2.AsyncClient) -> None:
    answer = await probe.post("/commit-fails")
    assert (answer.status_code, answer.json()["code"]) == (500, "InternalError")


async def test_a_refusal_rolls_back_and_success_has_committed(probe: httpx2.AsyncClient, db: Database) -> None:
    async def stored(email: str) -> Any:
        async with db.read() as session:
            return await session.scalar(text("select count(*) from users where email = :email"), {"email": email})

    refused = await probe.post("/write", params={"email": "rolled-back@example.com", "fail": "true"})
    written = await probe.post("/write", params={"email": "committed@example.com", "fail": "false"})
    assert (refused.status_code, written.status_code) == (409, 200)
    assert await stored("rolled-back@example.com") == 0
    assert await stored("committed@example.com") == 1


async def test_a_read_only_session_cannot_write(probe: httpx2.AsyncClient) -> None:
    assert (await probe.post("/read-only")).status_code == 500


async def test_text_that_postgresql_cannot_hold_is_the_clients_mistake(probe: httpx2.AsyncClient) -> None:
    answer = await probe.get("/store", params={"value": "nul\x00"})
    assert (answer.status_code, answer.json()["code"]) == (422, "InvalidValue")


async def test_a_body_that_is_not_json_is_a_400(probe: httpx2.AsyncClient) -> None:
    headers = {"content-type": "application/json", "idempotency-key": "k"}
    for body in (b"{", b"\xff\xfe", b'{"a": nope}'):
        answer = await probe.post("/orders", content=body, headers=headers)
        assert answer.status_code == 400, body
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field", "code"),
    [
        ({"course_id": "0197c3a0-0000-7000-8000-000000000000", "amount": "5"}, "amount", "int_type"),
        ({"course_id": "0197c3a0-0000-7000-8000-000000000000", "amount": True}, "amount", "int_type"),
        ({"course_id": "0197c3a0-0000-7000-8000-000000000000", "amount": -1}, "amount", "greater_than_equal"),
        ({"course_id": "nope", "amount": 1}, "course_id", "uuid_parsing"),
        ({"course_id": "0197c3a0-0000-7000-8000-000000000000"}, "amount", "missing"),
        ({"course_id": "0197c3a0-0000-7000-8000-000000000000", "amount": 1, "x": 1}, "x", "extra_forbidden"),
    ],
)
async def test_a_wrong_field_is_named(probe: httpx2.AsyncClient, body: dict[str, Any], field: str, code: str) -> None:
    answer = await probe.post("/orders", json=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (422, "ValidationFailed")
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [(field, code)]


@pytest.mark.parametrize("key", [None, "", "with space", "x" * 256, "tab\t"])
async def test_an_idempotency_key_is_required_and_printable(probe: httpx2.AsyncClient, key: str | None) -> None:
    body = {"course_id": "0197c3a0-0000-7000-8000-000000000000", "amount": 1}
    answer = await probe.post("/orders", json=body, headers={} if key is None else {"Idempotency-Key": key})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]


async def test_unknown_paths_are_problems_too(probe: httpx2.AsyncClient) -> None:
    answer = await probe.get("/v1/nowhere")
    assert (answer.status_code, answer.json()["code"], answer.json()["instance"]) == (404, "NotFound", "/v1/nowhere")
