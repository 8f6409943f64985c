"""Reading the route table: who may call what, and which methods a path has."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from re import Pattern

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import compile_path

from api.deps import Requires, anonymous
from domain.identity import Permission


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    dependant: Dependant

    @cached_property
    def permissions(self) -> list[Permission]:
        """What a caller needs."""
        return [call.permission for call in _calls(self.dependant) if isinstance(call, Requires)]

    @cached_property
    def public(self) -> bool:
        """Whether it says that it asks for no sign-in."""
        return any(call is anonymous for call in _calls(self.dependant))


def _calls(dependant: Dependant) -> Iterator[object]:
    for child in dependant.dependencies:
        yield child.call
        yield from _calls(child)


def operations(app: FastAPI) -> Iterator[Operation]:
    """Every operation; what is no FastAPI route (the OpenAPI document) is left out."""
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            for method in sorted(context.methods or ()):
                yield Operation(method, context.path or "", context.dependant)


class Methods:
    """Which methods a path has. The router itself knows those of the first route that matches only."""

    def __init__(self, app: FastAPI) -> None:
        found: dict[str, set[str]] = {}
        for operation in operations(app):
            found.setdefault(operation.path, set()).add(operation.method)
        self._table: list[tuple[Pattern[str], set[str]]] = [
            (compile_path(path)[0], methods) for path, methods in found.items()
        ]

    def of(self, path: str) -> list[str]:
        """For a request path, sorted."""
        return sorted({method for pattern, methods in self._table if pattern.match(path) for method in methods})
