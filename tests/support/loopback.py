"""No test may reach beyond this machine: `connect` refuses every other address."""

import ipaddress
import socket
from typing import Any

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


class NetworkForbidden(RuntimeError):
    """A test tried to leave loopback."""


def _check(family: int, address: Any) -> None:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return
    host = address[0]
    if host == "localhost":
        return
    try:
        allowed = ipaddress.ip_address(host).is_loopback
    except ValueError:
        allowed = False
    if not allowed:
        raise NetworkForbidden(f"tests may only connect to loopback, not to {host}")


def forbid_the_rest() -> None:
    """Guards `socket.socket` for the rest of the process."""

    def connect(self: socket.socket, address: Any) -> None:
        _check(self.family, address)
        _connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        _check(self.family, address)
        return _connect_ex(self, address)

    socket.socket.connect = connect  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = connect_ex  # type: ignore[method-assign,assignment]
