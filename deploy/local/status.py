"""The state of the stack for people (a table) and for programs (JSON)."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.local.state import GOOD, ServiceState, StackState, is_alive

_COLOURS = {
    "ready": "green",
    "finished": "green",
    "external": "cyan",
    "unhealthy": "red",
    "failed": "bold red",
    "restarting": "yellow",
    "stopped": "dim",
}


def observed(state: StackState) -> StackState:
    """`state`, corrected where its writer is gone: nothing it started counts as ready any more."""
    if not state.is_running():
        state.ready = False
        for service in state.services:
            if service.status != "external":
                alive = is_alive(service.pid, service.started)
                service.status, service.detail = "stopped", "left behind; `lyceum down` ends it" if alive else ""
                service.pid = service.pid if alive else None
    return state


def as_json(state: StackState | None) -> dict[str, Any]:
    """What `lyceum status --json` prints."""
    if state is None:
        return {"running": False, "ready": False, "failure": "", "seconds": None, "services": []}
    return {
        "running": state.is_running(),
        "ready": state.ready,
        "failure": state.failure,
        "seconds": state.seconds,
        "services": [_service_json(service) for service in state.services],
    }


def _service_json(service: ServiceState) -> dict[str, Any]:
    return {
        "name": service.name,
        "kind": service.kind,
        "pid": service.pid,
        "port": service.port,
        "url": service.url,
        "health": service.status,
        "healthy": service.status in GOOD,
        "restarts": service.restarts,
        "seconds": service.seconds,
        "detail": service.detail,
        "notice": service.notice,
    }


def render(state: StackState, *, footer: str = "") -> RenderableType:
    """A table with a line per service."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("service", "health", "pid", "port", "restarts", "start", "open"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("pid", "port", "restarts") else "left")
    for service in state.services:
        table.add_row(
            service.name,
            Text(service.status, style=_COLOURS.get(service.status, "blue")),
            str(service.pid or ""),
            str(service.port or ""),
            str(service.restarts or ""),
            "" if service.seconds is None else f"{service.seconds:.1f} s",
            _remark(service),
        )
    notices = [Text(f"\n{service.notice}", style="yellow") for service in state.services if service.notice]
    return Group(table, *notices, Text(footer))


def _remark(service: ServiceState) -> Text:
    if service.detail and service.status not in GOOD:
        return Text(service.detail.splitlines()[0], style="yellow", overflow="ellipsis")
    return Text(service.url, overflow="ellipsis")
