"""A private RabbitMQ node. Nothing is installed: Debian's packages are unpacked into the cache and run from there.

epmd, Erlang's name server, is started by us as a service of its own: one started by the node would stay behind.
"""

import asyncio
import os
import platform
import re
import shutil
from pathlib import Path

from deploy.local import environment
from deploy.local.stack import Stack
from deploy.local.tools import Note, ToolFailed, exclusive, run

_OURS = re.compile(r"^Inst (rabbitmq-server|erlang-\S+) ", re.MULTILINE)
_LIBRARIES = re.compile(r"^Inst (lib\S+) ", re.MULTILINE)
_PINNED_ROOT = "/usr/lib/erlang"
_HINT = "no rabbitmq-server on PATH and no apt to fetch one: set LYCEUM_RABBITMQ__URL to a running RabbitMQ"


def _system_server() -> Path | None:
    """An installed server's own script. Debian's wrapper on PATH insists on root, what it wraps does not."""
    for candidate in (Path("/usr/lib/rabbitmq/bin/rabbitmq-server"), shutil.which("rabbitmq-server")):
        if candidate and Path(candidate).exists():
            return Path(candidate)
    return None


def _unpacked(stack: Stack) -> Path:
    return stack.cache / "rabbitmq" / platform.machine()


def _server(stack: Stack) -> Path:
    return _system_server() or _unpacked(stack) / "usr/lib/rabbitmq/bin/rabbitmq-server"


def _erlang_bin(stack: Stack) -> Path | None:
    return None if _system_server() else _unpacked(stack) / "usr/lib/erlang/bin"


async def prepare(stack: Stack, note: Note) -> None:
    """Fetches and unpacks the packages once, then writes the node's configuration."""
    if not _system_server():
        async with exclusive(stack.cache / "rabbitmq"):
            if not (_unpacked(stack) / ".complete").exists():
                await fetch(stack, note)
    configure(stack)


async def fetch(stack: Stack, note: Note) -> None:
    """Downloads and unpacks, with package lists of our own where apt's are missing or old. Raises ToolFailed."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ToolFailed(_HINT)
    target = _unpacked(stack)
    shutil.rmtree(target, ignore_errors=True)
    downloads = target / "packages"
    apt = ["apt-get", "-q", "-o", "APT::Sandbox::User=root"]
    try:
        await _download(stack, apt, downloads, note)
    except ToolFailed:  # no lists, or old ones that name what is no longer there
        note("reading apt's package lists")
        apt += _own_package_lists(target / "apt")
        await run(stack, [*apt, "update"])
        await _download(stack, apt, downloads, note)
    for package in sorted(downloads.glob("*.deb")):
        await run(stack, ["dpkg-deb", "-x", str(package), str(target)])
    _unpin(target)
    shutil.rmtree(downloads)
    (target / ".complete").touch()


async def _download(stack: Stack, apt: list[str], folder: Path, note: Note) -> None:
    """Leaves the packages, and no others, in `folder`."""
    note("asking apt which packages RabbitMQ needs")
    packages = await _plan(stack, apt)
    note("fetching RabbitMQ and Erlang (35 MB, once)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    await run(stack, [*apt, "download", *packages], cwd=folder)


async def _plan(stack: Stack, apt: list[str]) -> list[str]:
    """RabbitMQ and all of Erlang, as if nothing were installed, and the libraries this system really lacks."""
    install = ["install", "-s", "--no-install-recommends", "rabbitmq-server"]
    whole, missing = await asyncio.gather(
        run(stack, [*apt, "-o", "Dir::State::status=/dev/null", *install]), run(stack, [*apt, *install])
    )
    return _OURS.findall(whole) + _LIBRARIES.findall(missing)


def _own_package_lists(folder: Path) -> list[str]:
    """Options that make apt keep its lists in `folder`: the system's may be empty, and not ours to write."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    return ["-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"]


def _unpin(root: Path) -> None:
    """Debian writes Erlang's place into its scripts; put the place it has now."""
    erlang = root / _PINNED_ROOT.lstrip("/")
    for script in [*erlang.glob("bin/*"), *erlang.glob("erts-*/bin/*")]:
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if content.startswith(b"#!") and _PINNED_ROOT.encode() in content:
            script.write_bytes(content.replace(_PINNED_ROOT.encode(), str(erlang).encode()))


def configure(stack: Stack) -> None:
    """Writes the node's configuration, plugins and cookie."""
    home = stack.data("rabbitmq")
    home.mkdir(parents=True, exist_ok=True)
    password = stack.secrets[environment.RABBITMQ_PASSWORD]
    configuration = home / "rabbitmq.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"listeners.tcp.1 = 127.0.0.1:{stack.ports['rabbitmq']}\n"
        f"default_user = lyceum\ndefault_pass = {password}\n"
        "default_user_tags.administrator = true\n"
        "log.console = true\nlog.console.level = info\nlog.file = false\n"
        "vm_memory_high_watermark.relative = 0.4\ndisk_free_limit.absolute = 50MB\n"
        "raft.wal_max_size_bytes = 33554432\nconsumer_timeout = 2592000000\n"
    )
    (home / "enabled_plugins").write_text("[].\n")
    cookie = home / ".erlang.cookie"
    cookie.unlink(missing_ok=True)
    cookie.touch(mode=0o600)
    cookie.write_text(stack.secrets[environment.ERLANG_COOKIE])
    cookie.chmod(0o400)


def server_environment(stack: Stack) -> dict[str, str]:
    home = stack.data("rabbitmq")
    erlang = _erlang_bin(stack)
    path, root = os.environ.get("PATH", os.defpath), _unpacked(stack)
    return {
        "PATH": f"{erlang}:{path}" if erlang else path,
        "LD_LIBRARY_PATH": ":".join(
            str(path) for lib in ("lib", "usr/lib") for path in root.glob(f"{lib}/*-linux-gnu*")
        ),
        "HOME": str(home),
        "RABBITMQ_HOME": str(_server(stack).resolve().parents[1]),
        "RABBITMQ_NODENAME": "lyceum@localhost",
        "RABBITMQ_DIST_PORT": str(stack.ports["rabbitmq_dist"]),
        "ERL_EPMD_PORT": str(stack.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(stack.home / "logs"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        # The script then becomes the node instead of watching over it: one process, one pid.
        "RUNNING_UNDER_SYSTEMD": "1",
        # Loopback only, and schedulers that do not spin while idle.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
        "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def command(stack: Stack) -> list[str]:
    return [str(_server(stack))]


def epmd_command(stack: Stack) -> list[str]:
    erlang = _erlang_bin(stack)
    program = str(erlang / "epmd") if erlang else shutil.which("epmd") or "epmd"
    return [program, "-address", "127.0.0.1", "-port", str(stack.ports["epmd"])]
