"""What the embedded stack knows about itself: its folder, its ports, its secrets and what the user runs elsewhere."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from core import paths
from deploy.local import environment, ports
from deploy.local.state import StackState

UNPRIVILEGED_USER = "nobody"
"""Whom servers that refuse root run as, when the launcher is root: an account every system has (initdb asks)."""


@dataclass(frozen=True)
class Stack:
    """`secrets` are the generated values of the env file; `environ` is what the user set."""

    home: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    environ: Mapping[str, str]

    @classmethod
    def open(cls, home: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Stack":
        """The stack in `home` (default: see core/paths.py). Writes nothing. Raises BadPort."""
        home = home.resolve() if home else paths.home(environ)
        return cls(home, ports.configured(environ), environment.secrets(home / "env"), dict(environ))

    @classmethod
    def attach(cls, home: Path | None = None, environ: Mapping[str, str] = os.environ) -> "Stack":
        """The stack as it runs now: with the ports it was started with, whatever this environment says."""
        stack = cls.open(home, environ)
        state = StackState.read(stack.state_file)
        return replace(stack, ports=state.ports) if state and state.is_running() else stack

    def create(self) -> None:
        """Makes the folders and writes the env file."""
        for folder in (self.home, self.home / "data", self.home / "logs", self.home / "run"):
            folder.mkdir(parents=True, exist_ok=True)
        environment.write(self.env_file, {**self.secrets, **self.addresses()})

    def addresses(self) -> dict[str, str]:
        """Settings that point to this stack's servers."""
        return environment.addresses(self)

    @property
    def env_file(self) -> Path:
        return self.home / "env"

    @property
    def state_file(self) -> Path:
        return self.home / "run" / "state.json"

    @property
    def cache(self) -> Path:
        """Downloads shared by all stacks of this user; `reset` keeps it."""
        base = self.environ.get("LYCEUM_CACHE") or self.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(base) / "lyceum"

    @property
    def throwaway(self) -> bool:
        """A stack for tests: servers may skip what only protects against a power cut."""
        return self.environ.get("LYCEUM_ENVIRONMENT") == "test"

    def data(self, name: str) -> Path:
        """A service's own data folder."""
        return self.home / "data" / name

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def external(self, *settings: str) -> bool:
        """Whether the user runs a server elsewhere: a setting that points to it is in the environment."""
        return any(self.environ.get(setting) for setting in settings)

    def child_environment(self) -> dict[str, str]:
        """What every child is started with. `LYCEUM_STACK` marks it as this stack's, see leftovers.py."""
        return {
            **self.environ,
            "LYCEUM_STACK": str(self.home),
            "LYCEUM_ENV_FILE": str(self.env_file),
            "PYTHONUNBUFFERED": "1",
        }


def script(name: str) -> str:
    """A program installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)
