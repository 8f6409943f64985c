"""`make env`: writes `.env`, the file docker-compose.yml reads, with a fresh secret for each that it needs.

`--sandbox` (`make env SANDBOX=1`) adds the stand-in for Stripe; without it the two Stripe keys are left for you to fill
in. The file is `.env.example` with values.
"""

import base64
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"

SANDBOX = {
    "COMPOSE_PROFILES": "sandbox",
    "LYCEUM_STRIPE__API_BASE": "http://stripe:8420",
}


def _password() -> str:
    """Letters and digits only: it becomes part of URLs."""
    return secrets.token_hex(24)


def _signing_key() -> str:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return '"' + key.decode().replace("\n", "\\n") + '"'


GENERATORS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": _password,
    "LYCEUM_OWNER_PASSWORD": _password,
    "LYCEUM_DB_PASSWORD": _password,
    "TEMPORAL_DB_PASSWORD": _password,
    "VALKEY_PASSWORD": _password,
    "RABBITMQ_PASSWORD": _password,
    "LYCEUM_S3__ACCESS_KEY": lambda: secrets.token_hex(10).upper(),
    "LYCEUM_S3__SECRET_KEY": _password,
    "LYCEUM_AUTH__SIGNING_KEYS": _signing_key,
    "LYCEUM_TEMPORAL__CODEC_KEYS": lambda: "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "LYCEUM_CODEC_SERVER__TOKEN": _password,
}
STRIPE: dict[str, Callable[[], str]] = {
    "LYCEUM_STRIPE__SECRET_KEY": lambda: "sk_test_" + secrets.token_hex(16),
    "LYCEUM_STRIPE__WEBHOOK_SECRETS": lambda: "whsec_" + secrets.token_hex(16),
}


def filled(example: str, *, sandbox: bool) -> str:
    """`example` with a value behind each name that has a generator."""
    generators = GENERATORS | (STRIPE if sandbox else {})
    values = {name: generate() for name, generate in generators.items()} | (SANDBOX if sandbox else {})

    def fill(line: re.Match[str]) -> str:
        name = line["name"]
        return f"{name}={values[name]}" if name in values else line[0]

    return re.sub(r"^(?:# )?(?P<name>[A-Z0-9_]+)=.*$", fill, example, flags=re.MULTILINE)


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
