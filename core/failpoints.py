"""Places where a test may kill this process. Without `LYCEUM_FAILPOINTS` (refused in production) they do nothing.

A failpoint is armed by a file of its name in that directory. It ends the process with SIGKILL, once: the file is
claimed by renaming it, so a restarted process passes.
"""

import os
import signal
from pathlib import Path

from core.settings import get_settings


def hit(name: str) -> None:
    """Dies here if `name` is armed."""
    directory = get_settings().failpoints
    if not directory:
        return
    armed = Path(directory) / name
    try:
        armed.rename(f"{armed}.hit")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
