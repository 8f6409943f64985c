"""Which port each service listens on. `LYCEUM_PORTS__<NAME>` overrides a default."""

import socket
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from deploy.local.errors import StackError

DEFAULTS: Mapping[str, int] = {
    "api": 8000,
    "temporal": 7233,
    "temporal_ui": 8233,
    "codec_server": 8234,
    "postgres": 14320,
    "valkey": 16379,
    "rabbitmq": 16720,
    "rabbitmq_dist": 16721,
    "epmd": 16722,
    "s3": 18333,
    "s3_grpc": 18334,
    "s3_filer": 18888,
    "s3_filer_grpc": 18889,
    "s3_master": 19333,
    "s3_master_grpc": 19334,
    "s3_volume": 18080,
    "s3_volume_grpc": 18081,
    "opensearch": 19200,
    "opensearch_transport": 19300,
    "smtp": 11025,
    "mail": 8025,
    "stripe": 8420,
    "metrics_worker": 9101,
    "metrics_relay": 9102,
    "metrics_consume_search": 9103,
    "metrics_consume_notifications": 9104,
    "metrics_consume_processes": 9105,
}

OUTGOING = 32_768
"""Where the kernel begins to take ports for outgoing connections: a server's port above it may be taken by chance."""

_FREE_FROM, _FREE_TO = 20_000, OUTGOING


class BadPort(StackError):
    """A setting of a port holds no port number."""


class PortTaken(StackError):
    """A port the stack needs is in use; the message names the port, its owner where known, and the setting."""


def setting(name: str) -> str:
    """The environment variable that moves port `name`."""
    return f"LYCEUM_PORTS__{name.upper()}"


def configured(environ: Mapping[str, str]) -> dict[str, int]:
    """Every port by name. Raises BadPort on a value that is no port."""
    ports = {}
    for name, default in DEFAULTS.items():
        value = environ.get(setting(name), "")
        if value and not (value.isdigit() and 0 < int(value) < 65_536):
            raise BadPort(f"{setting(name)}={value!r} is not a port number")
        ports[name] = int(value or default)
    return ports


def free_block(home: Path) -> dict[str, str]:
    """Settings that move every port into one block nobody listens in, for a stack beside others.

    Where the search begins depends on the stack's folder: two that start at once do not pick the same block.
    """
    size = len(DEFAULTS)
    blocks = [range(base, base + size) for base in range(_FREE_FROM, _FREE_TO - size, size)]
    first = zlib.crc32(str(home).encode()) % len(blocks)
    for block in blocks[first:] + blocks[:first]:
        if all(is_free(port) for port in block):
            return {setting(name): str(port) for name, port in zip(DEFAULTS, block, strict=True)}
    raise PortTaken(f"no {size} free ports in a row between {_FREE_FROM} and {_FREE_TO}")


def is_free(port: int) -> bool:
    """Whether a server could listen on loopback `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check(ports: Mapping[str, int], names: Iterable[str]) -> None:
    """Raises PortTaken for the first of `names` whose port is in use or given twice."""
    seen: dict[int, str] = {}
    for name in names:
        port = ports[name]
        if port in seen:
            raise PortTaken(f"port {port} is given to both {seen[port]} and {name}; change {setting(name)}")
        seen[port] = name
        if not is_free(port):
            raise PortTaken(f"port {port} for {name} is taken{_owner(port)}; set {setting(name)} to another one")


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return ""
    return ""
