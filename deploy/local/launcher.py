"""The process behind `lyceum up --detach`: the supervisor as a daemon. Prints its pid; takes only `--infra`."""

import os
import sys

from deploy.local.commands import serve, sole_launcher
from deploy.local.errors import StackError
from deploy.local.stack import Stack


def main(arguments: list[str]) -> int:
    """Exit status 0 when told to stop, 1 when the stack gave up (the reason goes to standard error)."""
    _leave_the_parent()
    try:
        stack = Stack.open()
        with sole_launcher(stack):
            os.ftruncate(sys.stderr.fileno(), 0)  # its log still has what earlier ones said
            serve(stack, infra="--infra" in arguments, hint="`make down` stops it.")
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _leave_the_parent() -> None:
    """Goes on as a child in a session of its own; who started us gets its pid and need not wait."""
    pid = os.fork()
    if pid:
        os.write(sys.stdout.fileno(), str(pid).encode())
        os._exit(0)
    os.setsid()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
