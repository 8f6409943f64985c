"""The project's own source files, parsed once."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("activities", "api", "core", "domain", "models", "search", "services", "workflows")


@dataclass(frozen=True)
class Module:
    path: str
    text: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """`file:line` of a node."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call with the name it calls, e.g. `workflow.logger.info`; unnamed parts are left out."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield node, dotted(node.func)


def dotted(node: ast.expr) -> str:
    """`a.b.c` for names and attributes; what is neither contributes an empty part."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def tracked() -> tuple[str, ...]:
    """Files git knows or would add; the folder's files where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        return tuple(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py") if ".venv" not in path.parts)
    return tuple(name for name in listing.stdout.splitlines() if (ROOT / name).is_file())


@cache
def modules(*packages: str) -> tuple[Module, ...]:
    """The Python modules of the given top-level packages."""
    found = []
    for name in tracked():
        if name.endswith(".py") and name.partition("/")[0] in packages:
            text = (ROOT / name).read_text(encoding="utf-8")
            found.append(Module(name, text, ast.parse(text, name)))
    return tuple(found)
