"""`make demo EXIT=1` as a newcomer runs it: the whole stack from nothing, the story, its exit status, nothing left."""

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from deploy.local import ports
from deploy.local.stack import script


@pytest.mark.timeout(900)
def test_the_demo_tells_its_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "stack"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LYCEUM_")},
        **ports.free_block(home),
        "LYCEUM_HOME": str(home),
        "COLUMNS": "120",
    }
    done = subprocess.run(
        [script("lyceum"), "demo", "--exit"], env=environment, capture_output=True, text=True, check=False, timeout=850
    )

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    for told in ("declined", "expired", "SIGKILL", "order.paid.v1", "balance 0.00 USD"):
        assert told in done.stdout, done.stdout[-6000:]
    left = [process.pid for process in psutil.process_iter(["environ"]) if _belongs(process, home)]
    assert left == []


def _belongs(process: psutil.Process, home: Path) -> bool:
    environ = process.info["environ"] or {}
    return environ.get("LYCEUM_HOME") == str(home) and process.pid != os.getpid()
