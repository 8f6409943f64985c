"""`lyceum up`, `down`, `status`, `reset` and `demo`."""

import asyncio
import contextlib
import json as json_module
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from deploy.local import leftovers, requests
from deploy.local.ports import PortTaken
from deploy.local.services import table
from deploy.local.stack import PROJECT, Stack
from deploy.local.state import StackState, creation_time, is_alive
from deploy.local.status import Board, as_json, console, observed, render
from deploy.local.supervisor import ServiceFailed, Supervisor, last_lines
from deploy.local.tools import ToolFailed


class UpFailed(Exception):
    """The stack did not come up."""


EXPECTED = (PortTaken, ServiceFailed, ToolFailed, UpFailed)
"""What stops a stack and needs no stack trace to be understood."""


def up(*, detach: bool = False, infra: bool = False) -> None:
    """Starts the stack. In the foreground until Ctrl-C, or in the background once everything is ready."""
    stack = Stack.open()
    running = StackState.read(stack.state_file)
    if running and running.is_running():
        console.print(f"Already running (pid {running.pid}).")
        console.print(render(running))
        return
    try:
        if detach:
            start_detached(stack, infra=infra, show=True)
        else:
            serve(stack, infra=infra, show=True)
    except EXPECTED as error:
        _give_up(str(error))


def _give_up(reason: str) -> None:
    console.print("\nThe stack stopped.", style="bold red")
    console.print(reason, highlight=False, markup=False)
    sys.exit(1)


def serve(stack: Stack, *, infra: bool, show: bool) -> None:
    """Runs the stack in this process until SIGINT or SIGTERM. Raises what made it give up."""
    stack.create()
    ended = leftovers.end(stack.home, StackState.read(stack.state_file))
    if ended:
        console.print(f"Ended {ended} processes that an earlier launcher left behind.")
    asyncio.run(_serve(Supervisor(stack, table(infra=infra)), show=show))


async def _serve(supervisor: Supervisor, *, show: bool) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(requests.SIGNAL, supervisor.obey)
    with Board(hint="Ctrl-C stops everything.") if show else contextlib.nullcontext() as board:
        refresher = asyncio.create_task(_refresh(board, supervisor)) if board else None
        try:
            await supervisor.run()
        finally:
            if refresher:
                refresher.cancel()


async def _refresh(board: Board, supervisor: Supervisor) -> None:
    while True:
        board.show(supervisor.state)
        await asyncio.sleep(0.25)


def start_detached(stack: Stack, *, infra: bool, show: bool, timeout: float = 600.0) -> StackState:
    """Starts a launcher in a session of its own and waits until all is ready. Raises UpFailed with its reason."""
    stack.create()
    log = stack.log("launcher")
    stack.state_file.unlink(missing_ok=True)
    with log.open("wb") as output:
        launched = subprocess.run(
            [sys.executable, "-m", "deploy.local.launcher", *(["--infra"] if infra else [])],
            cwd=PROJECT,
            env={**stack.environ, "LYCEUM_HOME": str(stack.home)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            check=True,
        )
    pid = int(launched.stdout)
    try:
        with Board(hint="`make status` shows it, `make down` stops it.") if show else contextlib.nullcontext() as board:
            return _until_ready(stack, pid, board, timeout)
    except BaseException:
        _end_launcher(pid)
        raise


def _until_ready(stack: Stack, pid: int, board: Board | None, timeout: float) -> StackState:
    born, deadline = creation_time(pid), time.monotonic() + timeout
    while time.monotonic() < deadline:
        alive = is_alive(pid, born)
        state = StackState.read(stack.state_file)
        if state and board:
            board.show(state)
        if state and state.ready:
            return state
        if not alive:
            raise UpFailed(
                state.failure if state and state.failure else "\n".join(last_lines(stack.log("launcher"), 40))
            )
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
    state = StackState.read(stack.state_file)
    running = state is not None and state.is_running()
    if state and running:
        _end_launcher(state.pid)
    return bool(leftovers.end(stack.home, state)) or running


def down() -> None:
    """Stops the stack and keeps its data."""
    console.print("Stopped." if stop(Stack.open()) else "Nothing was running.")


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
        if state.failure and not state.ready:
            console.print(f"\nIt stopped: {state.failure}", highlight=False, markup=False)
    sys.exit(0 if state and state.ready else 1)


def demo(*, exit: bool = False) -> None:
    """Starts the stack when it is down and tells the story. What was started here stays up until Ctrl-C, or `exit`."""
    from deploy.demo import story

    stack = Stack.attach()
    state = StackState.read(stack.state_file)
    started = not (state and state.is_running())
    if started:
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
    with contextlib.suppress(KeyboardInterrupt):
        while (state := StackState.read(stack.state_file)) and state.is_running():
            time.sleep(0.5)
        if state and state.failure:
            _give_up(state.failure)
