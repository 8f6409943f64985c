"""How children are launched: as somebody else where a server refuses root, and never outliving the launcher."""

import os
import pwd
import shutil
import signal
from collections.abc import Sequence

from deploy.local.errors import StackError
from deploy.local.stack import UNPRIVILEGED_USER


def launch_line(
    command: Sequence[str], *, unprivileged: bool = False, death_signal: signal.Signals | None = None
) -> list[str]:
    """The argument list that runs `command`.

    `unprivileged`: as another user when we are root. That user keeps the right to pass closed folders, because the
    project and the caches may lie below root's home.
    `death_signal`: what the kernel sends the child when the launcher dies, however it dies. Without setpriv (not
    Linux) the next `lyceum up` or `down` ends what was left, see leftovers.py.
    Raises StackError when a server could not be kept from running as root.
    """
    setpriv = shutil.which("setpriv")
    options: list[str] = []
    if unprivileged and os.geteuid() == 0:
        if setpriv is None:
            raise StackError("PostgreSQL and OpenSearch refuse root, and setpriv (util-linux) is missing")
        user, keep = pwd.getpwnam(UNPRIVILEGED_USER), "-all,+dac_override"
        options += ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups", "--no-new-privs"]
        # access(2) would drop the right again without the last one, and Java asks access(2).
        options += ["--inh-caps", keep, "--ambient-caps", keep, "--securebits", "+no_setuid_fixup"]
    if death_signal and setpriv:
        options += ["--pdeathsig", death_signal.name.removeprefix("SIG")]
    return [setpriv, *options, *command] if setpriv and options else list(command)
