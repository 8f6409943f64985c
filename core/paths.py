"""Where a developer's stack keeps its files."""

import os
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The embedded stack's folder, absolute: `LYCEUM_HOME`, else `.lyceum` in the project."""
    return Path(environ.get("LYCEUM_HOME") or PROJECT / ".lyceum").resolve()
