"""`make check-deploy`: what the tools on this machine say about the Dockerfile and docker-compose.yml.

Nothing is started and no engine is needed. A tool that is missing is named as skipped; what a tool refuses fails the
check. `LYCEUM_BUILD_ARGS` adds arguments to the image build, e.g. `--volume` for a proxy's certificates.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from deploy.docker import env
from deploy.secrets import STRIPE

ROOT = Path(__file__).parents[1]
DOCKERFILE = "deploy/docker/Dockerfile"
INSIDE = """
set -eu
test "$(id -u):$(id -g)" = 10001:10001
lyceum --help > /dev/null
python -c "import api.main, core.messaging.relay, core.codec_server, deploy.setup, search.reindex, workflows.worker"
test ! -e /app/tests
test ! -e /app/deploy/local
test ! -e /app/deploy/stripe_sandbox
test ! -e /usr/local/bin/pip
if python -m pip --version 2> /dev/null; then exit 1; fi
if touch /app/x 2> /dev/null; then exit 1; fi
"""
INSIDE_SANDBOX = """
set -eu
test "$(id -u):$(id -g)" = 10001:10001
touch /data/x
python -c "import deploy.stripe_sandbox.main"
"""
TARGETS = {"stripe-sandbox": INSIDE_SANDBOX, "runtime": INSIDE}

console = Console(highlight=False)


class Skipped(Exception):
    """The check needs something this machine does not have."""


class Failed(Exception):
    """A tool refuses what it was shown."""


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Skipped(f"{name} is not installed")
    return found


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The command's output; raises `Failed` with it."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{shlex.join(command)}\n{done.stdout.strip()}")
    return done.stdout


def hadolint() -> str:
    """The Dockerfile's lint."""
    _run([_tool("hadolint"), DOCKERFILE])
    return "no findings"


def shellcheck() -> str:
    """The scripts that containers run."""
    scripts = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "deploy/docker").rglob("*.sh"))
    _run([_tool("shellcheck"), *scripts])
    return f"{len(scripts)} scripts"


def compose() -> str:
    """docker-compose.yml with and without the Stripe sandbox, and that it starts with no secret missing."""
    docker = _tool("docker")
    try:
        _run([docker, "compose", "version"])
    except Failed:
        raise Skipped("docker has no compose plugin") from None
    services = [_configured(docker, sandbox=sandbox) for sandbox in (False, True)]
    with tempfile.NamedTemporaryFile("w", suffix=".env") as empty:
        try:
            _run([docker, "compose", "--env-file", empty.name, "config", "--quiet"])
        except Failed as refusal:
            if "required variable" not in str(refusal):
                raise
            return " and ".join(f"{count} services" for count in services) + ", secrets required"
    raise Failed("docker-compose.yml is accepted without secrets")


def _configured(docker: str, *, sandbox: bool) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        text = env.filled(env.EXAMPLE.read_text(), sandbox=sandbox)
        if not sandbox:
            text += "".join(f"{name}={generate()}\n" for name, generate in STRIPE.items())
        file.write(text)
        file.flush()
        return len(_run([docker, "compose", "--env-file", file.name, "config", "--services"]).split())


def image() -> str:
    """A real build of the image, and a look inside."""
    build, run = _engine()
    extra = shlex.split(os.environ.get("LYCEUM_BUILD_ARGS", ""))
    for target, script in TARGETS.items():
        tag = f"lyceum-check-{target}"
        _run([*build, *extra, "--file", DOCKERFILE, "--target", target, "--tag", tag, "."])
        _run(run(tag, script))
    return "built; not root, no pip, no test code, every process imports"


def _engine() -> tuple[list[str], Callable[[str, str], list[str]]]:
    """How to build here, and how to run a script in the image of a tag."""
    for name in ("docker", "podman"):
        if path := shutil.which(name):
            try:
                _run([path, "info"])
            except Failed:
                continue
            return [path, "build"], lambda tag, script: [path, "run", "--rm", "--entrypoint", "sh", tag, "-c", script]
    if path := shutil.which("buildah"):
        base = next(line.split()[1] for line in (ROOT / DOCKERFILE).read_text().splitlines() if line[:5] == "FROM ")
        try:
            _run([path, "pull", "--policy", "missing", base])
        except Failed as refusal:
            raise Skipped(f"buildah cannot get the base image {base}: {str(refusal).splitlines()[-1]}") from None
        build = [path, "build", "--isolation", "chroot", "--layers"]
        return build, lambda tag, script: ["sh", "-ec", _with_buildah(path, tag, script)]
    raise Skipped("neither a Docker or Podman engine nor buildah is here")


def _with_buildah(buildah: str, tag: str, script: str) -> str:
    return f"""
        container=$({buildah} from --pull-never {tag})
        trap '{buildah} rm "$container" > /dev/null' EXIT
        {buildah} run --isolation chroot "$container" -- sh -c {shlex.quote(script)}
    """


def check(checks: Iterable[Callable[[], str]]) -> bool:
    """Runs them all, says what each found, and tells whether none failed."""
    good = True
    for task in checks:
        try:
            verdict, style = task(), "green"
        except Skipped as reason:
            verdict, style = f"skipped: {reason}", "yellow"
        except Failed as refusal:
            verdict, style, good = str(refusal), "red", False
        console.print(f"{task.__name__:<12}", end="")
        console.print(verdict, style=style, markup=False)
    return good


if __name__ == "__main__":
    sys.exit(not check((hadolint, shellcheck, compose, image)))
