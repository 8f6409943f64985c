"""`make env`: writes `.env`, the file docker-compose.yml reads, with a fresh secret for each that it needs.

`--sandbox` (`make env SANDBOX=1`) adds the stand-in for Stripe; without it the two Stripe keys are left for you to fill
in. The file is `.env.example` with values.
"""

import os
import re
import sys
from pathlib import Path

from deploy.secrets import OURS, STRIPE, Generators, password

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"

SANDBOX = {
    "COMPOSE_PROFILES": "sandbox",
    "LYCEUM_STRIPE__API_BASE": "http://stripe:8420",
}

GENERATORS: Generators = {
    **dict.fromkeys(("POSTGRES_PASSWORD", "LYCEUM_OWNER_PASSWORD", "LYCEUM_DB_PASSWORD"), password),
    **dict.fromkeys(("TEMPORAL_DB_PASSWORD", "VALKEY_PASSWORD", "RABBITMQ_PASSWORD"), password),
    **OURS,
}


def filled(example: str, *, sandbox: bool) -> str:
    """`example` with a value behind each name that has a generator."""
    generators = {**GENERATORS, **(STRIPE if sandbox else {})}
    values = {name: generate() for name, generate in generators.items()} | (SANDBOX if sandbox else {})

    def fill(line: re.Match[str]) -> str:
        name = line["name"]
        return f"{name}={_quoted(values[name])}" if name in values else line[0]

    return re.sub(r"^(?:# )?(?P<name>[A-Z0-9_]+)=.*$", fill, example, flags=re.MULTILINE)


def _quoted(value: str) -> str:
    """A key of several lines, on one."""
    return '"' + value.replace("\n", "\\n") + '"' if "\n" in value else value


def write(path: Path, *, sandbox: bool) -> None:
    """Makes the file at `path`, its owner's alone.

    Raises `FileExistsError`: volumes hold what only the secrets of that file open.
    """
    text = filled(EXAMPLE.read_text(), sandbox=sandbox)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


if __name__ == "__main__":
    try:
        write(ROOT / ".env", sandbox="--sandbox" in sys.argv[1:])
    except FileExistsError:
        sys.exit(".env is there already, and the volumes hold what only its secrets open: move it away first")
