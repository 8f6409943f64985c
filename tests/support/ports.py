"""Ports for processes that are told where to listen.

The kernel's free ports will not do: it gives the same one again to whoever asks before the process has it.
"""

import os

from deploy.local.ports import DEFAULTS, is_free

# Below the blocks of embedded stacks, which are below the ports of outgoing connections.
_FROM, _COUNT, _WORKERS = 10_000, 1_000, 10

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_first = os.getpid() * 97 % _COUNT
_unused = iter([_FROM + _worker * _COUNT + (_first + step) % _COUNT for step in range(_COUNT)])


def free_port() -> int:
    """A loopback port nobody listens on, never the same twice, of each pytest worker another, and none of a developer's
    own stack."""
    return next(port for port in _unused if port not in DEFAULTS.values() and is_free(port))
