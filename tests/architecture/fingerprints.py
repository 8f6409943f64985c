"""What each workflow commands Temporal to do, in order, read from its source.

`python -m tests.architecture.fingerprints` accepts the source as it is.

A process that runs today is replayed by tomorrow's code and must give the same commands again. The fingerprint shows a
change of commands in a diff, before any history has to be replayed; arguments and lengths of timers it does not show.
"""

import ast
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from tests.architecture.source import ROOT, dotted, modules

STORED = Path(__file__).with_name("workflow_fingerprints.json")
_COMMANDS = frozenset(
    {
        *("wait_condition", "sleep", "upsert_search_attributes", "patched", "deprecate_patch", "continue_as_new"),
        *("start_child_workflow", "execute_child_workflow", "uuid4", "random"),
        *(
            f"{verb}_{local}activity{how}"
            for verb in ("execute", "start")
            for local in ("", "local_")
            for how in ("", "_method", "_class")
        ),
    }
)
_HANDLERS = ("workflow.run", "workflow.signal", "workflow.update", "workflow.query")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Fingerprint = dict[str, list[str]]


@cache
def _activity_names() -> dict[str, str]:
    """`OrderActivities.apply_payments` → `orders.apply_payments`."""
    found = {}
    for module in modules("activities"):
        for owner in (node for node in module.tree.body if isinstance(node, ast.ClassDef)):
            for function in (node for node in owner.body if isinstance(node, Function)):
                for decorator in function.decorator_list:
                    if isinstance(decorator, ast.Call) and dotted(decorator.func) == "activity.defn":
                        found[f"{owner.name}.{function.name}"] = _given_name(decorator) or function.name
    return found


@cache
def _classes() -> dict[str, ast.ClassDef]:
    return {
        node.name: node
        for module in modules("workflows")
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }


def _methods(owner: ast.ClassDef) -> dict[str, Function]:
    """Its own methods and those of its bases here, its own first."""
    found = {node.name: node for node in owner.body if isinstance(node, Function)}
    for base in owner.bases:
        if dotted(base) in _classes():
            found = found | {k: v for k, v in _methods(_classes()[dotted(base)]).items() if k not in found}
    return found


class _Reader:
    """Writes one method down: its commands, the branches around them, the methods it calls that command something."""

    def __init__(self, methods: dict[str, Function]) -> None:
        self._methods = methods

    @cache  # noqa: B019 - a reader lives as long as one fingerprint
    def commands(self, name: str) -> bool:
        """Whether the method commands anything, itself or by another."""
        for node in ast.walk(self._methods[name]):
            if isinstance(node, ast.Call):
                called = self._own(node)
                if self._command(node) or (called is not None and called != name and self.commands(called)):
                    return True
        return False

    def _own(self, call: ast.Call) -> str | None:
        owner, _, name = dotted(call.func).rpartition(".")
        return name if owner == "self" and name in self._methods else None

    def _command(self, call: ast.Call) -> str | None:
        owner, _, name = dotted(call.func).rpartition(".")
        return name if owner == "workflow" and name in _COMMANDS else None

    def block(self, body: Sequence[ast.stmt]) -> list[str]:
        return [line for statement in body for line in self._statement(statement)]

    def _statement(self, node: ast.stmt) -> Iterator[str]:
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                yield from self._calls(test)
                yield from self._branch(f"if {ast.unparse(test)}", body, also=[orelse])
                yield from self._branch("else", orelse)
            case ast.While(test=test, body=body):
                yield from self._calls(test)
                yield from self._branch(f"while {ast.unparse(test)}", body)
            case ast.For(target=target, iter=items, body=body):
                yield from self._calls(items)
                yield from self._branch(f"for {ast.unparse(target)} in {ast.unparse(items)}", body)
            case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
                others = [*(handler.body for handler in handlers), orelse, final]
                yield from self._branch("try", body, also=others)
                for handler in handlers:
                    kind = f"except {ast.unparse(handler.type)}" if handler.type else "except"
                    yield from self._branch(kind, handler.body, also=[body])
                yield from self._branch("else", orelse)
                yield from self._branch("finally", final)
            case ast.With(body=body) | ast.AsyncWith(body=body):
                yield from self.block(body)
            case ast.Return() | ast.Raise() | ast.Continue() | ast.Break():
                yield from self._calls(node)
                yield type(node).__name__.lower()
            case _:
                yield from self._calls(node)

    def _branch(self, title: str, body: Sequence[ast.stmt], also: Sequence[Sequence[ast.stmt]] = ()) -> Iterator[str]:
        lines = self.block(body)
        if lines or any(self.block(other) for other in also):
            yield title
            yield from (f"  {line}" for line in lines)

    def _calls(self, node: ast.AST) -> Iterator[str]:
        """Calls below `node` in the order they are made: arguments before the call."""
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.Lambda):
                yield from self._calls(child)
        if isinstance(node, ast.Call):
            yield from self._call(node)

    def _call(self, call: ast.Call) -> Iterator[str]:
        if command := self._command(call):
            yield " ".join([command, *self._activities(call)])
        elif (called := self._own(call)) and self.commands(called):
            yield " ".join([called, *self._activities(call)])

    def _activities(self, call: ast.Call) -> Iterator[str]:
        for argument in call.args:
            name = dotted(argument) if isinstance(argument, ast.Attribute) else ""
            if name.partition(".")[0].endswith("Activities"):
                yield _activity_names()[name]


def _is_handler(function: Function) -> bool:
    names = [dotted(item.func if isinstance(item, ast.Call) else item) for item in function.decorator_list]
    return any(name in _HANDLERS for name in names)


def of(owner: ast.ClassDef) -> Fingerprint:
    """The workflow's methods that command something or are handlers, each with what it does line by line."""
    methods = _methods(owner)
    reader = _Reader(methods)
    return {
        name: reader.block(function.body)
        for name, function in sorted(methods.items())
        if reader.commands(name) or _is_handler(function)
    }


def _given_name(decorator: ast.Call) -> str | None:
    for keyword in decorator.keywords:
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value)
    return None


def _workflow_name(owner: ast.ClassDef) -> str | None:
    for decorator in owner.decorator_list:
        if isinstance(decorator, ast.Call) and dotted(decorator.func) == "workflow.defn":
            return _given_name(decorator) or owner.name
    return None


def current() -> dict[str, Fingerprint]:
    """The fingerprint of every workflow by its name."""
    named = {_workflow_name(owner): owner for owner in _classes().values()}
    return {name: of(owner) for name, owner in sorted(named.items(), key=str) if name is not None}


def stored() -> dict[str, Fingerprint]:
    loaded: dict[str, Fingerprint] = json.loads(STORED.read_text())
    return loaded


def write() -> None:
    """Accepts the source as it is."""
    STORED.write_text(json.dumps(current(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write()
    print(f"wrote {STORED.relative_to(ROOT)}")  # noqa: T201
