"""What the supervisor says about its services: a small file other commands read, replaced at once on every change."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import psutil

Status = Literal[
    "waiting",
    "preparing",
    "starting",
    "ready",
    "unhealthy",
    "restarting",
    "stopping",
    "stopped",
    "failed",
    "finished",
    "external",
]
GOOD: frozenset[Status] = frozenset({"ready", "finished", "external"})


@dataclass(slots=True)
class ServiceState:
    """One line of `lyceum status`. `started` is the process's creation time: a later process may get its pid."""

    name: str
    kind: str
    url: str
    port: int | None
    status: Status = "waiting"
    detail: str = ""
    notice: str = ""
    pid: int | None = None
    started: float | None = None
    restarts: int = 0
    last_death: str = ""
    """How it last ended by itself, with the last lines of its log then."""
    seconds: float | None = None
    """How long the last start took."""


@dataclass(slots=True)
class StackState:
    """The whole stack. `failure` is why it gave up; `ready` that everything answers."""

    pid: int
    started: float
    services: list[ServiceState] = field(default_factory=list)
    ports: dict[str, int] = field(default_factory=dict)
    ready: bool = False
    failure: str = ""
    seconds: float | None = None
    """From launch to everything ready."""

    @classmethod
    def read(cls, path: Path) -> "StackState | None":
        """The last written state, or None when there is none."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        services = [ServiceState(**item) for item in data.pop("services")]
        return cls(**data, services=services)

    def write(self, path: Path) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
        fresh.replace(path)

    def service(self, name: str) -> ServiceState:
        """Raises KeyError when the stack has no such service."""
        for service in self.services:
            if service.name == name:
                return service
        raise KeyError(name)

    def is_running(self) -> bool:
        """Whether the supervisor that wrote this is still alive."""
        return is_alive(self.pid, self.started)


def is_alive(pid: int | None, started: float | None) -> bool:
    """Whether process `pid` runs and is the one created at `started`."""
    if pid is None or started is None:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def creation_time(pid: int) -> float | None:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def own_state(services: Sequence[ServiceState], ports: Mapping[str, int]) -> StackState:
    """A fresh state written by this process."""
    return StackState(
        pid=os.getpid(), started=psutil.Process().create_time(), services=list(services), ports=dict(ports)
    )
