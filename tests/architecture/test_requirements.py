"""What is imported is required by name, not by luck of somebody else's requirements."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from tests.architecture.source import PRODUCT, ROOT, modules
from tests.architecture.test_rules import TOP_LEVEL, imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()


def _canonical(requirement: str) -> str:
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def _undeclared(packages: tuple[str, ...], requirements: list[str]) -> list[str]:
    declared = {_canonical(requirement) for requirement in requirements}
    return [
        f"{module.at(node)} {name}"
        for module in modules(*packages)
        for node, name in imports(module)
        if (top := name.partition(".")[0]) not in TOP_LEVEL | sys.stdlib_module_names
        if not {_canonical(distribution) for distribution in DISTRIBUTIONS.get(top, [])} & declared
    ]


def test_what_the_product_imports_is_a_requirement() -> None:
    assert _undeclared(PRODUCT, PROJECT["dependencies"]) == []


def test_what_the_embedded_stack_imports_is_a_requirement() -> None:
    assert _undeclared(("deploy",), [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["stack"]]) == []


def test_what_tests_import_is_a_requirement() -> None:
    extras = PROJECT["optional-dependencies"].values()
    assert _undeclared(("tests",), [*PROJECT["dependencies"], *(item for extra in extras for item in extra)]) == []
