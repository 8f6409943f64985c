"""The sandbox as a process: it listens on loopback only, and a crash loses nothing."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil

from tests.integration.stripe_sandbox import Receiver, Served, receiver, serve
from tests.support.ports import free_port

HEADERS = {"Authorization": "Bearer sk_test_lyceum", "Idempotency-Key": "k"}


@asynccontextmanager
async def _process(state: Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deploy.stripe_sandbox.main",
        env={
            **os.environ,
            "LYCEUM_PORTS__STRIPE": str(port),
            "LYCEUM_STRIPE_SANDBOX__STATE": str(state),
            **environment,
        },
    )
    try:
        await asyncio.wait_for(_healthy(f"http://127.0.0.1:{port}"), 30)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _healthy(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{url}/healthz") as response:
                    assert await response.json() == {"status": "ok"}
                    return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)


async def _create(http: aiohttp.ClientSession, url: str) -> tuple[str, bool]:
    """(customer id, replayed)"""
    async with http.post(f"{url}/v1/customers", data={"email": "a@example.com"}, headers=HEADERS) as response:
        body = await response.json()
        return body["id"], response.headers.get("Idempotent-Replayed") == "true"


async def test_a_killed_sandbox_comes_back_with_all_it_committed(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http, receiver() as hook:
        hook.status = 500
        async with _process(tmp_path / "state.db", **_webhook(hook)) as (process, url):
            made, _ = await _create(http, url)
            async with http.post(f"{url}/_sandbox/clock", json={"advance_seconds": 500}) as response:
                assert response.status == 200
            await hook.wait_for(1)
            process.kill()
            await process.wait()
        hook.status, before = 200, len(hook.got)
        async with _process(tmp_path / "state.db", **_webhook(hook)) as (_, url):
            assert await _create(http, url) == (made, True)
            async with http.get(f"{url}/_sandbox/clock") as response:
                assert (await response.json())["offset_seconds"] == 500
            await hook.wait_for(before + 1)


def _webhook(hook: Receiver) -> dict[str, str]:
    return {
        "LYCEUM_STRIPE_SANDBOX__WEBHOOK_URL": hook.url,
        "LYCEUM_STRIPE__SECRET_KEY": "sk_test_lyceum",
        "LYCEUM_STRIPE__WEBHOOK_SECRETS": "whsec_new,whsec_old",
    }


async def test_an_error_of_its_database_does_not_end_what_it_does_by_itself(tmp_path: Path) -> None:
    async with serve(tmp_path / "state.db") as sandbox, receiver() as hook:
        await sandbox.control("PUT", "/endpoints", {"url": hook.url, "secret": "whsec_known"})
        with sqlite3.connect(tmp_path / "state.db") as other:
            other.execute("alter table jobs rename to hidden")
        await sandbox.client.v1.customers.create_async({"email": "a@example.com"})
        assert await _health(sandbox, 503) == {"status": "failing"}
        with sqlite3.connect(tmp_path / "state.db") as other:
            other.execute("alter table hidden rename to jobs")
        assert await _health(sandbox, 200) == {"status": "ok"}
        assert [body["type"] for body in await hook.wait_for(1)] == ["customer.created"]


async def _health(sandbox: Served, status: int) -> dict[str, str]:
    """What `/healthz` says once it answers so."""
    async with asyncio.timeout(10):
        while True:
            async with sandbox.http.get(f"{sandbox.url}/healthz") as response:
                if response.status == status:
                    return dict(await response.json())
            await asyncio.sleep(0.05)


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    async with _process(tmp_path / "state.db") as (process, _):
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"]
