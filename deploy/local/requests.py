"""Asking a running supervisor to take one service down for a while, or up again: a file each, then a signal."""

import os
import signal
import time
from typing import Literal

from deploy.local.errors import StackError
from deploy.local.stack import Stack
from deploy.local.state import StackState

SIGNAL = signal.SIGUSR1
Action = Literal["stop", "start"]


class RequestFailed(StackError):
    """The stack is not running, has no such service, or did not do it in time."""


def _service(stack: Stack, name: str) -> tuple[StackState, str]:
    state = StackState.read(stack.state_file)
    if state is None or not state.is_running():
        raise RequestFailed("the stack is not running")
    try:
        return state, state.service(name).status
    except KeyError:
        raise RequestFailed(f"the stack has no service {name!r}") from None


def send(stack: Stack, name: str, action: Action, timeout: float = 90.0) -> None:
    """Returns once `name` is down (`stop`) or answers again (`start`)."""
    state, _ = _service(stack, name)
    folder = stack.home / "run" / "requests"
    folder.mkdir(exist_ok=True)
    fresh = folder / f".{name}"
    fresh.write_text(action)
    fresh.replace(folder / name)
    os.kill(state.pid, SIGNAL)
    wanted, deadline = {"stop": "stopped", "start": "ready"}[action], time.monotonic() + timeout
    while time.monotonic() < deadline:
        if _service(stack, name)[1] == wanted:
            return
        time.sleep(0.05)
    raise RequestFailed(f"{name} did not {action} within {timeout:g} s")


def take(stack: Stack) -> list[tuple[str, str]]:
    """What was asked for since the last call: names and actions."""
    folder = stack.home / "run" / "requests"
    found = []
    for path in sorted(folder.glob("[!.]*")) if folder.exists() else []:
        found.append((path.name, path.read_text()))
        path.unlink()
    return found
