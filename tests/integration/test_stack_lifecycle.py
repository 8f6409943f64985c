"""The real servers of a stack of their own: up, status, a killed launcher, up again with the data, down, reset."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from sqlalchemy import make_url

from deploy.local import leftovers, ports
from deploy.local.stack import PROJECT, Stack, script
from deploy.local.state import StackState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Command:
    """The `lyceum` command as a user runs it, on a stack below `home`."""

    def __init__(self, home: Path) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LYCEUM_")}
        # The stand-in for OpenSearch is what machines without a new JDK get, and it starts at once.
        self.environ = {
            **clean,
            **ports.free_block(home),
            "LYCEUM_HOME": str(home),
            "LYCEUM_OPENSEARCH_STAND_IN": "1",
        }
        self.home = home

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [script("lyceum"), *arguments], env=self.environ, cwd=PROJECT, capture_output=True, text=True, timeout=240
        )

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self("status", "--json").stdout)
        return status

    def living(self) -> list[psutil.Process]:
        return leftovers.find(self.home, StackState.read(self.home / "run" / "state.json"))


@pytest.fixture
def lyceum(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "stack")
    yield command
    command("down")


async def _remember(command: Command, statement: str) -> Any:
    stack = Stack.attach(command.home, command.environ)
    url = make_url(stack.addresses()["LYCEUM_DATABASE__OWNER_URL"]).set(drivername="postgresql")
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def _until_gone(command: Command) -> None:
    deadline = time.monotonic() + 20
    while command.living() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [process.name() for process in command.living()] == []


async def test_data_survives_a_killed_launcher_and_nothing_else_does(lyceum: Command) -> None:
    first = lyceum("up", "--detach", "--infra")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "in-memory stand-in" in first.stdout
    status = lyceum.status()
    assert (status["running"], status["ready"]) == (True, True)
    assert {service["health"] for service in status["services"]} == {"ready"}
    assert all(service["pid"] and service["port"] and service["restarts"] == 0 for service in status["services"])
    await _remember(lyceum, "create table memory as select 42 as answer")

    state = StackState.read(lyceum.home / "run" / "state.json")
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)
    _until_gone(lyceum)
    assert lyceum.status()["running"] is False

    assert lyceum("up", "--detach", "--infra").returncode == 0
    assert await _remember(lyceum, "select answer from memory") == 42
    assert lyceum("down").stdout.strip() == "Stopped."
    _until_gone(lyceum)
    assert lyceum("reset").returncode == 0
    assert not (lyceum.home / "data").exists()


def test_a_collision_is_named_on_the_terminal(lyceum: Command) -> None:
    lyceum.environ["LYCEUM_PORTS__MAIL"] = lyceum.environ["LYCEUM_PORTS__SMTP"]
    failed = lyceum("up", "--infra")
    assert failed.returncode == 1
    port = lyceum.environ["LYCEUM_PORTS__SMTP"]
    assert f"port {port} is given to both mail and smtp; change LYCEUM_PORTS__SMTP" in " ".join(failed.stdout.split())
    assert lyceum.living() == []
