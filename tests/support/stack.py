"""The servers tests share: `.lyceum/test`, started once, used by any number of pytest processes.

A test that stops servers takes a stack of its own (`Servers(HOME.parent / "name")`), or it disturbs the others.
"""

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psutil
from dotenv import dotenv_values

from core.paths import PROJECT
from deploy.local import commands, ports, requests
from deploy.local.stack import Stack
from deploy.local.state import StackState
from deploy.local.status import as_json, console, observed

HOME = Path(os.environ.get("LYCEUM_TEST_HOME") or PROJECT / ".lyceum" / "test")
KEEP = "LYCEUM_TEST_KEEP_STACK"


def _environ(**extra: str) -> dict[str, str]:
    """The environment without settings of a developer's own stack."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LYCEUM_")}
    kept = {name: os.environ[name] for name in ("LYCEUM_CACHE", "LYCEUM_OPENSEARCH_STAND_IN") if name in os.environ}
    return {**clean, **kept, "LYCEUM_ENVIRONMENT": "test", **extra}


class Servers:
    """One embedded stack without our own processes, below `home`."""

    def __init__(self, home: Path = HOME) -> None:
        self.home = home
        self.stack = Stack.attach(home, _environ())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def state(self) -> StackState | None:
        return StackState.read(self.stack.state_file)

    def acquire(self, session: int) -> Stack:
        """The running stack, started now unless it is up. `session` is the pid of the pytest run that uses it."""
        with self._locked():
            if not self._answers(patience=60):
                commands.stop(self.stack)
                self.stack = Stack.open(self.home, _environ(**ports.free_block(self.home)))
                (self.home / "stop-after-use").unlink(missing_ok=True)
                commands.start_detached(self.stack, infra=True, show=False)
                self.stack = Stack.attach(self.home, self.stack.environ)
                if not os.environ.get(KEEP):
                    (self.home / "stop-after-use").touch()
            (self.home / "users").mkdir(exist_ok=True)
            (self.home / "users" / str(session)).touch()
            return self.stack

    def _answers(self, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while (state := self.state()) and state.is_running():
            if state.ready:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return False

    def release(self, session: int) -> None:
        """Ends `session`'s use. The last one stops the servers, unless they were started to be kept."""
        with self._locked():
            mine = self.home / "users" / str(session)
            if not mine.exists():
                return
            mine.unlink()
            if not self._users() and (self.home / "stop-after-use").exists():
                commands.stop(self.stack)
                (self.home / "stop-after-use").unlink()

    def _users(self) -> list[int]:
        """Living pytest runs that use the servers."""
        pids = [int(path.name) for path in (self.home / "users").glob("*")]
        return [pid for pid in pids if psutil.pid_exists(pid)]

    def values(self) -> dict[str, str]:
        """The env file of the running stack: addresses and secrets."""
        return {name: value or "" for name, value in dotenv_values(self.stack.env_file, interpolate=False).items()}

    def port(self, service: str) -> int:
        """Where `service` listens (the ports are chosen at start)."""
        state = self.state()
        found = state.service(service).port if state else None
        if found is None:
            raise LookupError(f"{service} is not running")
        return found

    def pid(self, service: str) -> int:
        state = self.state()
        found = state.service(service).pid if state else None
        if found is None:
            raise LookupError(f"{service} is not running")
        return found

    @asynccontextmanager
    async def without(self, service: str) -> AsyncIterator[None]:
        """Stops one server while the block runs; it is up again afterwards."""
        await asyncio.to_thread(requests.send, self.stack, service, "stop")
        try:
            yield
        finally:
            await asyncio.to_thread(requests.send, self.stack, service, "start")


def main(action: str) -> None:
    """`up`, `down` or `status` by hand; `restart SERVICE` after its code changed."""
    os.environ[KEEP] = "1"
    servers = Servers()
    if action == "up":
        servers.acquire(os.getpid())
    elif action == "down":
        commands.stop(servers.stack)
    elif action == "restart":
        for each in ("stop", "start"):
            requests.send(servers.stack, sys.argv[2], each)
    state = servers.state()
    console.print_json(data=as_json(observed(state) if state else None))


if __name__ == "__main__":
    main(sys.argv[1])
