"""Ends processes of a stack whose launcher is gone: known by the mark every child inherits, or by their record."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil

from deploy.local.state import StackState, is_alive


def find(home: Path, state: StackState | None) -> list[psutil.Process]:
    """Living processes that carry `home`'s mark or were recorded, without this one and its ancestors."""
    recorded = {service.pid for service in state.services if is_alive(service.pid, service.started)} if state else set()
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own and (process.pid in recorded or _marked(process, home)) and _lives(process)
    ]


def end(home: Path, state: StackState | None, grace: float = 5.0) -> int:
    """Terminates, then kills, what `find` finds. Returns how many there were."""
    processes = find(home, state)
    for process in processes:
        _signal(process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in [*alive, *find(home, state)]:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=grace)
    return len(processes)


def _marked(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("LYCEUM_STACK") == str(home)
    except (psutil.Error, OSError):
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
