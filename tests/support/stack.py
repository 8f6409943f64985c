"""The servers tests share: `.lyceum/test`, started once, used by any number of pytest processes."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dotenv import dotenv_values

from deploy.local import commands, ports
from deploy.local.stack import PROJECT, Stack
from deploy.local.state import StackState
from deploy.local.status import as_json, observed

HOME = Path(os.environ.get("LYCEUM_TEST_HOME") or PROJECT / ".lyceum" / "test")
KEEP = "LYCEUM_TEST_KEEP_STACK"


@contextmanager
def _locked() -> Iterator[None]:
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _environ(**extra: str) -> dict[str, str]:
    """The environment without settings of a developer's own stack."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LYCEUM_")}
    kept = {name: os.environ[name] for name in ("LYCEUM_CACHE", "LYCEUM_OPENSEARCH_STAND_IN") if name in os.environ}
    return {**clean, **kept, "LYCEUM_ENVIRONMENT": "test", **extra}


def acquire(session: int) -> Stack:
    """The running stack, started now unless it is up. `session` is the pid of the pytest run that then owns it."""
    with _locked():
        stack = Stack.open(HOME, _environ())
        state = StackState.read(stack.state_file)
        if state and state.is_running() and state.ready:
            return stack
        commands.stop(stack)
        stack = Stack.open(HOME, _environ(**ports.free_block()))
        commands.start_detached(stack, infra=True, show=False)
        if not os.environ.get(KEEP):
            (HOME / "owner").write_text(str(session))
        return stack


def release(session: int) -> None:
    """Stops the servers when `session` started them."""
    owner = HOME / "owner"
    if not owner.exists() or owner.read_text() != str(session):
        return
    with _locked():
        commands.stop(Stack.open(HOME, _environ()))
        owner.unlink(missing_ok=True)


def values(stack: Stack) -> dict[str, str]:
    """The env file of the running stack: addresses and secrets."""
    return {name: value or "" for name, value in dotenv_values(stack.env_file, interpolate=False).items()}


def port(stack: Stack, service: str) -> int:
    """Where `service` listens in the running stack (its ports are chosen at start)."""
    state = StackState.read(stack.state_file)
    found = state.service(service).port if state else None
    if found is None:
        raise LookupError(f"{service} is not running")
    return found


def main(action: str) -> None:
    os.environ[KEEP] = "1"
    if action == "up":
        acquire(os.getpid())
    stack = Stack.open(HOME, _environ())
    if action == "down":
        commands.stop(stack)
    state = StackState.read(stack.state_file)
    commands.console.print_json(data=as_json(observed(state) if state else None))


if __name__ == "__main__":
    main(sys.argv[1])
