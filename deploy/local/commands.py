"""`lyceum up`, `down`, `status`, `reset` and `demo`."""

import asyncio
import contextlib
import fcntl
import json as json_module
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from core.paths import PROJECT
from deploy.local import leftovers, requests
from deploy.local.errors import StackError
from deploy.local.services import table
from deploy.local.stack import Stack
from deploy.local.state import StackState, creation_time, is_alive
from deploy.local.status import Board, Deaths, as_json, console, observed, render
from deploy.local.supervisor import Supervisor, last_lines


class UpFailed(StackError):
    """The stack did not come up."""


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Ends a command with exit status 1 and the reason, where a stack trace would say no more."""
    try:
        yield
    except StackError as error:
        reason, *details = str(error).splitlines()
        console.print(f"\n{reason}", style="bold red", highlight=False, markup=False)
        console.print("\n".join(details), highlight=False, markup=False)
        sys.exit(1)


@_explained()
def up(*, detach: bool = False, infra: bool = False) -> None:
    """Starts the stack. In the foreground until Ctrl-C, or in the background once everything is ready."""
    stack = Stack.open()
    running = _running(stack)
    if running and (running.ready or not detach):
        console.print(f"Already running (pid {running.pid}).")
        console.print(render(running))
    elif detach:
        start_detached(stack, infra=infra, show=True)
    else:
        with sole_launcher(stack):
            serve(stack, infra=infra, hint="Ctrl-C stops everything.")


def _running(stack: Stack) -> StackState | None:
    """The state of the stack while a launcher runs it."""
    state = StackState.read(stack.state_file)
    return state if state and state.is_running() else None


@contextlib.contextmanager
def sole_launcher(stack: Stack) -> Iterator[None]:
    """Locks the stack while the block runs and this process lives. Raises UpFailed when it is locked already."""
    path = stack.home / "run" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpFailed(f"another launcher runs the stack in {stack.home}") from None
        yield


def serve(stack: Stack, *, infra: bool, hint: str) -> None:
    """Runs the stack in this process, its sole launcher, until SIGINT or SIGTERM. Raises what made it give up."""
    stack.create()
    asyncio.run(_serve(stack, Supervisor(stack, table(infra=infra)), hint))


async def _serve(stack: Stack, supervisor: Supervisor, hint: str) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(requests.SIGNAL, supervisor.obey)
    earlier = StackState.read(stack.state_file)
    supervisor.publish()
    if ended := await asyncio.to_thread(leftovers.end, stack.home, earlier):
        console.print(f"Ended {ended} processes that an earlier launcher left behind.")
    with Board(hint=hint) as board:
        refresher = asyncio.create_task(_refresh(board, supervisor))
        try:
            await supervisor.run()
        finally:
            refresher.cancel()


async def _refresh(board: Board, supervisor: Supervisor) -> None:
    while True:
        board.show(supervisor.state)
        await asyncio.sleep(0.25)


def start_detached(stack: Stack, *, infra: bool, show: bool, timeout: float = 600.0) -> StackState:
    """Waits until all is ready, after starting a launcher in a session of its own unless one is at work already.

    Raises UpFailed with the launcher's reason. The secrets are made by the launcher: attach to its stack afterwards.
    """
    running = _running(stack)
    pid = running.pid if running else _launch(stack, infra=infra)
    try:
        with Board(hint="`make status` shows it, `make down` stops it.") if show else contextlib.nullcontext() as board:
            return _until_ready(stack, pid, board, timeout)
    except BaseException:
        if not running:
            _end_launcher(pid)
        raise


def _launch(stack: Stack, *, infra: bool) -> int:
    """Starts a launcher that outlives this process; its pid."""
    log = stack.log("launcher")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        launched = subprocess.run(
            [sys.executable, "-m", "deploy.local.launcher", *(["--infra"] if infra else [])],
            cwd=PROJECT,
            env={**stack.environ, "LYCEUM_HOME": str(stack.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
    return int(launched.stdout)


def _until_ready(stack: Stack, pid: int, board: Board | None, timeout: float) -> StackState:
    """Waits for launcher `pid`, or for the one it gave way to."""
    launcher, deadline = (pid, creation_time(pid)), time.monotonic() + timeout
    while time.monotonic() < deadline:
        alive = is_alive(*launcher)
        if state := _running(stack):
            launcher = state.pid, state.started
            if board:
                board.show(state)
            if state.ready:
                return state
        elif not alive:
            last = StackState.read(stack.state_file)
            failure = last.failure if last and last.pid == launcher[0] else ""
            raise UpFailed(failure or "\n".join(last_lines(stack.log("launcher"), 40)) or "the launcher stopped")
        time.sleep(0.2)
    raise UpFailed(f"not ready after {timeout:g} s; see {stack.home / 'logs'}")


def _end_launcher(pid: int, patience: float = 60.0) -> None:
    try:
        process = psutil.Process(pid)
        process.terminate()
        process.wait(patience)
    except psutil.NoSuchProcess:
        return
    except psutil.TimeoutExpired:
        process.kill()


def stop(stack: Stack) -> bool:
    """Ends the launcher and whatever carries this stack's mark. False when nothing ran."""
    running = _running(stack)
    if running:
        _end_launcher(running.pid)
    return bool(leftovers.end(stack.home, StackState.read(stack.state_file)) or running)


@_explained()
def down() -> None:
    """Stops the stack and keeps its data."""
    console.print("Stopped." if stop(Stack.open()) else "Nothing was running.")


@_explained()
def reset() -> None:
    """Stops the stack and deletes its data, logs and secrets. Downloads stay in the cache."""
    stack = Stack.open()
    stop(stack)
    for folder in ("data", "logs", "run"):
        shutil.rmtree(stack.home / folder, ignore_errors=True)
    stack.env_file.unlink(missing_ok=True)
    console.print(f"Forgot {_shown(stack.home)}.")


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(os.getcwd()))
    return str(path)


@_explained()
def status(*, json: bool = False) -> None:
    """Prints every service; exit status 1 unless all is ready."""
    state = StackState.read(Stack.open().state_file)
    state = observed(state) if state else None
    if json:
        print(json_module.dumps(as_json(state), indent=2))  # noqa: T201
    elif state is None:
        console.print("Nothing is running. `make up` starts the stack.")
    else:
        console.print(render(state))
        Deaths().tell(state)
        if state.failure and not state.ready:
            console.print(f"\nIt stopped: {state.failure}", highlight=False, markup=False)
    sys.exit(0 if state and state.ready else 1)


@_explained()
def demo(*, exit: bool = False) -> None:
    """Tells the story once the stack is ready. One that was started here stays up until Ctrl-C, or `exit`."""
    from deploy.demo import story

    stack = Stack.attach()
    running = _running(stack)
    started = running is None
    if not (running and running.ready):
        up(detach=True)
        stack = Stack.attach()
    try:
        outcome = story.run(stack)
        if started and not exit:
            _stay(stack)
    except KeyboardInterrupt:
        outcome = 130
    finally:
        if started or exit:
            console.print("Stopping the stack; its data stays.")
            stop(stack)
    sys.exit(outcome)


def _stay(stack: Stack) -> None:
    """Until Ctrl-C, `make down` elsewhere, or the stack's own end."""
    console.print("\nEverything stays up. Ctrl-C stops it.", style="bold")
    deaths = Deaths(_running(stack))
    with contextlib.suppress(KeyboardInterrupt):
        while state := _running(stack):
            deaths.tell(state)
            time.sleep(0.5)
        if (last := StackState.read(stack.state_file)) and last.failure:
            raise UpFailed(last.failure)
