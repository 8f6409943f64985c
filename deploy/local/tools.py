"""Small helpers for preparing a service: running a program to its end, one at a time per folder."""

import asyncio
import fcntl
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.privileges import launch_line
from deploy.local.stack import Stack

Note = Callable[[str], None]
"""Shows what a service is doing while it is being prepared."""


class ToolFailed(StackError):
    """A program that prepares a service failed; the message ends with what it said."""


async def run(stack: Stack, command: Sequence[str], *, cwd: Path | None = None, unprivileged: bool = False) -> str:
    """The program's standard output, in English. It ends with the launcher, as a service does.

    Raises ToolFailed when it exits non-zero or is missing.
    """
    if not shutil.which(command[0]):
        raise ToolFailed(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *launch_line(command, unprivileged=unprivileged, death_signal=signal.SIGKILL),
        env={**stack.child_environment(), "LC_ALL": "C.UTF-8"},
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        said = "\n".join((out + err).decode(errors="replace").strip().splitlines()[-8:])
        raise ToolFailed(f"{Path(command[0]).name} exited with {process.returncode}: {said}")
    return out.decode(errors="replace")


@asynccontextmanager
async def exclusive(folder: Path) -> AsyncIterator[None]:
    """Holds `folder` (made when missing) for one stack at a time: two may start at once and share a download."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
