"""Histories as files: `histories/<workflow>/<version>-<case>.json`, without what names a machine."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

FOLDER = Path(__file__).with_name("histories")


def path_of(workflow: str, case: str) -> Path:
    """Where this release keeps the case."""
    return FOLDER / workflow / f"{version('lyceum')}-{case}.json"


def every() -> list[Path]:
    return sorted(FOLDER.glob("*/*.json"))


def store(path: Path, history: WorkflowHistory) -> None:
    events = _without_traces(history.to_json_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"workflow_id": history.workflow_id, **events}, indent=1) + "\n")


def load(path: Path) -> WorkflowHistory:
    stored = json.loads(path.read_text())
    return WorkflowHistory.from_json(stored.pop("workflow_id"), stored)


def _without_traces(node: Any) -> Any:
    """Stack traces name files of the machine that recorded; replay does not look at them."""
    if isinstance(node, dict):
        return {key: _without_traces(value) for key, value in node.items() if key != "stackTrace"}
    return [_without_traces(value) for value in node] if isinstance(node, list) else node
