"""The real servers of a stack of their own: up, status, a killed launcher, up again with the data, down, reset."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import boto3
import psutil
import pytest
from sqlalchemy import make_url

from core.paths import PROJECT
from core.settings import Settings
from deploy.local import leftovers, ports
from deploy.local.stack import script
from deploy.local.state import StackState
from tests.support.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


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

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [script("lyceum"), *arguments], env=self.environ, cwd=PROJECT, stdout=subprocess.PIPE, text=True
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


@dataclass
class Things:
    """One durable thing in each server that promises to keep it."""

    settings: Settings

    def _s3(self) -> Any:
        s3 = self.settings.s3
        return boto3.client(
            "s3",
            endpoint_url=s3.endpoint_url,
            region_name=s3.region,
            aws_access_key_id=s3.access_key.get_secret_value(),
            aws_secret_access_key=s3.secret_key.get_secret_value(),
        )

    async def _database(self) -> "asyncpg.Connection[asyncpg.Record]":
        url = make_url(self.settings.database.owner_url.get_secret_value()).set(drivername="postgresql")
        return await asyncpg.connect(url.render_as_string(hide_password=False))

    async def leave(self) -> None:
        self._s3().create_bucket(Bucket="memory")
        self._s3().put_object(Bucket="memory", Key="answer", Body=b"42")
        connection = await self._database()
        await connection.execute("create table memory as select 42 as answer")
        await connection.close()
        async with await aio_pika.connect(self.settings.rabbitmq.url.get_secret_value()) as broker:
            channel = await broker.channel(publisher_confirms=True)
            queue = await channel.declare_queue("memory", durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(
                aio_pika.Message(b"42", delivery_mode=aio_pika.DeliveryMode.PERSISTENT), queue.name
            )

    async def _message(self) -> bytes | None:
        """None while the queue has no leader yet: a `get` sent in that moment is never answered."""
        async with await aio_pika.connect(self.settings.rabbitmq.url.get_secret_value()) as broker:
            queue = await (await broker.channel()).get_queue("memory")
            try:
                message = await queue.get(timeout=3, fail=False)
            except TimeoutError:
                return None
            return message.body if message else None

    async def find(self) -> list[object]:
        connection = await self._database()
        answer = await connection.fetchval("select answer from memory")
        await connection.close()
        body = await until(self._message, timeout=60)
        return [answer, body, self._s3().get_object(Bucket="memory", Key="answer")["Body"].read()]


def _until_gone(command: Command) -> None:
    deadline = time.monotonic() + 40
    while command.living() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [process.name() for process in command.living()] == []


def _died(command: Command, name: str) -> str:
    """What is said of a service's death, once it was started again."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        service = next(service for service in command.status()["services"] if service["name"] == name)
        if service["restarts"] and service["healthy"]:
            return str(service["last_death"])
        time.sleep(0.1)
    raise AssertionError(f"{name} did not come back")


async def test_data_survives_a_killed_launcher_and_nothing_else_does(lyceum: Command) -> None:
    together = [lyceum.start("up", "--detach", "--infra") for _ in range(2)]
    for starting in together:
        said, _ = starting.communicate(timeout=240)
        assert starting.returncode == 0, said
        assert "in-memory stand-in" in said
    status = lyceum.status()
    assert (status["running"], status["ready"]) == (True, True)
    assert {service["health"] for service in status["services"]} == {"ready"}
    assert all(service["pid"] and service["port"] and service["restarts"] == 0 for service in status["services"])
    again = lyceum("up", "--detach", "--infra")
    assert (again.returncode, again.stdout.splitlines()[0][:15]) == (0, "Already running")
    things = Things(Settings(_env_file=lyceum.home / "env"))
    await things.leave()

    state = StackState.read(lyceum.home / "run" / "state.json")
    assert state is not None
    os.kill(state.service("mail").pid or 0, signal.SIGKILL)
    death = _died(lyceum, "mail")
    assert death.startswith(f"mail was ended by SIGKILL; last lines of {lyceum.home}/logs/mail.log:")
    assert death in (lyceum.home / "logs" / "launcher.log").read_text()
    assert "mail was ended by SIGKILL" in lyceum("status").stdout
    os.kill(state.pid, signal.SIGKILL)
    _until_gone(lyceum)
    assert lyceum.status()["running"] is False

    assert lyceum("up", "--detach", "--infra").returncode == 0
    assert await things.find() == [42, b"42", b"42"]
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
    assert f"port {port} is given to both" in lyceum.status()["failure"]


@pytest.mark.parametrize("command", ["up", "down", "status", "reset", "demo"])
def test_a_port_that_is_no_number_is_named_on_the_terminal(lyceum: Command, command: str) -> None:
    lyceum.environ["LYCEUM_PORTS__API"] = "abc"
    failed = lyceum(command)
    assert (failed.returncode, failed.stderr) == (1, "")
    assert failed.stdout.strip() == "LYCEUM_PORTS__API='abc' is not a port number"
    del lyceum.environ["LYCEUM_PORTS__API"]
