"""Rules a reviewer would otherwise have to remember."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.source import PRODUCT, ROOT, Module, dotted, modules, tracked

TOP_LEVEL = {*PRODUCT, "deploy", "tests"}
NONDETERMINISTIC_CALLS = re.compile(
    r"(^|\.)(datetime|date)\.(now|utcnow|today)$|(^|\.)time\.(time|time_ns|monotonic|sleep)$|(^|\.)uuid[1467]$|\.urandom$"
)
NONDETERMINISTIC_IMPORTS = {"random", "secrets", "core.ids", "core.clock"}
STARTS = {
    "start_workflow",
    "execute_workflow",
    "signal_with_start",
    "start_child_workflow",
    "execute_child_workflow",
    "WithStartWorkflowOperation",
}
HANDLES = {"get_workflow_handle", "get_workflow_handle_for", "get_external_workflow_handle"}
ACTIVITIES = re.compile(r"^workflow\.(execute|start)_(local_)?activity(_method|_class)?$")
FOR_UPDATES = {"_answered", "_finish"}
"""Waits without a timeout: an update's caller has one, and the process ends once its updates are answered."""
LOGGER = re.compile(r"^workflow\.logger\.(debug|info|warning|error|exception|critical|log)$")


def imports(module: Module) -> Iterator[tuple[ast.AST, str]]:
    """Every imported module name with its node."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


def test_no_package_at_the_top_but_the_fixed_ones() -> None:
    packages = {name.partition("/")[0] for name in tracked() if name.count("/") and name.endswith(".py")}
    assert packages - TOP_LEVEL == set()
    assert [name for name in tracked() if name.endswith(".py") and "/" not in name] == []


def test_workflows_and_domain_read_no_clock_and_no_randomness() -> None:
    found = []
    for module in modules("workflows", "domain"):
        found += [module.at(call) for call, name in module.calls() if NONDETERMINISTIC_CALLS.search(name)]
        found += [module.at(node) for node, name in imports(module) if name in NONDETERMINISTIC_IMPORTS]
    assert found == []


def test_loggers_come_from_core_logs() -> None:
    found = [
        module.at(call)
        for module in modules(*PRODUCT)
        if module.path != "core/logs.py"
        for call, name in module.calls()
        if name.startswith("structlog.") and name.endswith("get_logger")
    ]
    assert found == []


def test_only_core_db_commits() -> None:
    found = [
        module.at(call)
        for module in modules(*PRODUCT)
        if module.path != "core/db.py"
        for call, name in module.calls()
        if name.endswith(".commit")
    ]
    assert found == []


def _names_a_policy(call: ast.Call, policies: set[str]) -> bool:
    splats = [keyword.value for keyword in call.keywords if keyword.arg is None]
    names = {node.id for splat in splats for node in ast.walk(splat) if isinstance(node, ast.Name)}
    return bool(names & policies)


def _policies(module: Module, function: ast.AST) -> set[str]:
    """Names that hold a policy inside `function`: imported ones and parameters of that type."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("workflows.shared.policies", "workflows.shared")
        for alias in node.names
    }
    parameters = {
        argument.arg
        for argument in ast.walk(function)
        if isinstance(argument, ast.arg) and argument.annotation and dotted(argument.annotation).endswith("Policy")
    }
    return imported | parameters


def test_every_activity_call_names_a_policy() -> None:
    found, seen = [], 0
    for module in modules("workflows"):
        for function in ast.walk(module.tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            policies = _policies(module, function)
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ACTIVITIES.match(dotted(node.func)):
                    seen += 1
                    if not _names_a_policy(node, policies):
                        found.append(module.at(node))
    assert found == []
    assert seen > 0


def test_every_wait_has_a_timeout() -> None:
    found, seen = [], 0
    for module in modules("workflows"):
        for function in ast.walk(module.tree):
            if isinstance(function, ast.AsyncFunctionDef) and function.name not in FOR_UPDATES:
                for node in ast.walk(function):
                    if isinstance(node, ast.Call) and dotted(node.func) == "workflow.wait_condition":
                        seen += 1
                        if "timeout" not in {keyword.arg for keyword in node.keywords}:
                            found.append(module.at(node))
    assert found == []
    assert seen > 0


def _is_literal(node: ast.expr | None) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_no_literal_workflow_id() -> None:
    found = []
    for module in modules(*PRODUCT):
        for call, name in module.calls():
            called = name.rpartition(".")[2]
            given = next((keyword.value for keyword in call.keywords if keyword.arg in ("id", "workflow_id")), None)
            if called in HANDLES:
                given = given or (call.args[0] if call.args else None)
            if called in STARTS | HANDLES and _is_literal(given):
                found.append(module.at(call))
    assert found == []


def test_workflow_logger_gets_no_keyword_fields() -> None:
    allowed = {"exc_info", "extra", "stack_info"}
    found = [
        module.at(call)
        for module in modules("workflows")
        for call, name in module.calls()
        if LOGGER.match(name) and any(keyword.arg not in allowed for keyword in call.keywords)
    ]
    assert found == []


def test_only_the_gateway_and_its_neighbours_use_the_temporal_client() -> None:
    allowed = {
        "core/temporal.py",
        "workflows/gateway.py",
        "workflows/schedules.py",
        "workflows/starter.py",
        "workflows/worker.py",
    }
    found = [
        module.at(node)
        for module in modules(*PRODUCT)
        if module.path not in allowed
        for node, name in imports(module)
        if name == "temporalio.client"
    ]
    assert found == []


def test_no_unfinished_work_is_marked() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b|NotImplementedError")
    found = [
        f"{module.path}:{number}"
        for module in modules(*PRODUCT, "deploy", "tests")
        for number, line in enumerate(module.text.splitlines(), 1)
        if marks.search(line) and module.path != "tests/architecture/test_rules.py"
    ]
    assert found == []


def test_no_registry_host_and_no_path_of_one_machine_is_tracked() -> None:
    hosts = "|".join(
        re.escape(host)
        for host in (
            "pypi" + ".org",
            "files.python" + "hosted.org",
            "registry.npm" + "js.org",
            "repo1.maven" + ".org",
            "repo.maven.apache" + ".org",
            "proxy.golang" + ".org",
            "deb.debian" + ".org",
        )
    )
    wrong = re.compile(rf"{hosts}|(?<![\w.])/(root|home/\w+|Users/\w+|work)/")
    found = []
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" not in content[:1024]:
            text = content.decode("utf-8", errors="replace")
            found += [f"{name}:{n}" for n, line in enumerate(text.splitlines(), 1) if wrong.search(line)]
    assert [place for place in found if not place.startswith("tests/architecture/test_rules.py")] == []


def test_documents_that_are_named_exist() -> None:
    names = {name.rpartition("/")[2] for name in tracked() if name.endswith(".md")}
    found = [
        f"{module.path}:{number} {name}"
        for module in modules(*PRODUCT, "deploy", "tests")
        for number, line in enumerate(module.text.splitlines(), 1)
        for name in re.findall(r"[\w-]+\.md\b", line)
        if name not in names and not name[0].isdigit()  # a lesson of a course
    ]
    assert found == []


def test_modules_and_functions_stay_readable() -> None:
    long_modules, long_functions = [], []
    for module in modules(*PRODUCT, "deploy"):
        lines = module.text.count("\n")
        if lines > 450:
            long_modules.append(f"{module.path} ({lines} lines)")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "migrations" not in module.path:
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 60:
                    long_functions.append(f"{module.at(node)} {node.name} ({length} lines)")
    assert long_modules == []
    assert long_functions == []
