"""The state of the stack for people (a table) and for programs (JSON)."""

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.local.state import GOOD, ServiceState, StackState, Status, is_alive

console = Console()

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
        "last_death": service.last_death,
        "seconds": service.seconds,
        "detail": service.detail,
        "notice": service.notice,
    }


class Deaths:
    """Prints how a service ended, once for each time; the deaths in `known` were told before."""

    def __init__(self, known: StackState | None = None) -> None:
        self._told = {service.name: service.restarts for service in known.services} if known else {}

    def tell(self, state: StackState) -> None:
        for service in state.services:
            if service.restarts > self._told.get(service.name, 0):
                console.print(service.last_death, highlight=False, markup=False, soft_wrap=True)
            self._told[service.name] = service.restarts


class Board:
    """Shows a starting stack: a live table on a terminal, elsewhere a line for each change; deaths above either."""

    def __init__(self, *, hint: str) -> None:
        self._hint = hint
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._said: dict[str, tuple[Status, str]] = {}
        self._deaths = Deaths()

    def __enter__(self) -> "Board":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, state: StackState) -> None:
        self._deaths.tell(state)
        footer = f"\nReady in {state.seconds} s. {self._hint}" if state.ready else ""
        if self._live:
            self._live.update(render(state, footer=footer), refresh=True)
            return
        changed = [service for service in state.services if self._said.get(service.name) != _gist(service)]
        for service in changed:
            self._said[service.name] = _gist(service)
            if service.status != "waiting":
                words = [f"{service.name}:", service.status, service.detail or service.notice or _took(service)]
                console.print(" ".join(filter(None, words)), highlight=False, markup=False)
        if changed and state.ready:
            console.print(footer.strip(), highlight=False, markup=False)


def _gist(service: ServiceState) -> tuple[Status, str]:
    return service.status, service.detail


def _took(service: ServiceState) -> str:
    return f"in {service.seconds} s, {service.url}" if service.status == "ready" else ""


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
