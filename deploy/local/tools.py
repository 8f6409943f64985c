"""Small helpers for preparing a service: running a program to its end, one at a time per folder."""

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

Note = Callable[[str], None]
"""Shows what a service is doing while it is being prepared."""


class ToolFailed(Exception):
    """A program that prepares a service failed; the message ends with what it said."""


async def run(command: Sequence[str], *, env: Mapping[str, str], cwd: Path | None = None) -> str:
    """The program's standard output. Raises ToolFailed when it exits non-zero or is missing."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise ToolFailed(f"{command[0]} is not installed") from error
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
