"""The env file: generated secrets, stable across restarts, and the servers' addresses. Only its owner may read it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dotenv import dotenv_values

from deploy.secrets import OURS, STRIPE, Generators, password

if TYPE_CHECKING:
    from deploy.local.stack import Stack

# Names of settings, not secrets.
SUPERUSER_PASSWORD = "LYCEUM_STACK_POSTGRES_PASSWORD"  # noqa: S105
OWNER_PASSWORD = "LYCEUM_STACK_OWNER_PASSWORD"  # noqa: S105
APP_PASSWORD = "LYCEUM_STACK_APP_PASSWORD"  # noqa: S105
RABBITMQ_PASSWORD = "LYCEUM_STACK_RABBITMQ_PASSWORD"  # noqa: S105
ERLANG_COOKIE = "LYCEUM_STACK_ERLANG_COOKIE"
VALKEY_PASSWORD = "LYCEUM_STACK_VALKEY_PASSWORD"  # noqa: S105


# Whoever runs the first elsewhere has the second there too, or not at all: one's own Stripe key is for the real one.
_FOLLOWING = {
    "LYCEUM_DATABASE__URL": "LYCEUM_DATABASE__OWNER_URL",
    "LYCEUM_TEMPORAL__ADDRESS": "LYCEUM_TEMPORAL__UI_URL",
    "LYCEUM_STRIPE__SECRET_KEY": "LYCEUM_STRIPE__API_BASE",
}


_GENERATORS: Generators = {
    **dict.fromkeys((SUPERUSER_PASSWORD, OWNER_PASSWORD, APP_PASSWORD), password),
    **dict.fromkeys((RABBITMQ_PASSWORD, ERLANG_COOKIE, VALKEY_PASSWORD), password),
    **OURS,
    **STRIPE,
}


def secrets(path: Path) -> dict[str, str]:
    """The secrets in the env file at `path`; those it lacks are made now."""
    known = dotenv_values(path, interpolate=False) if path.exists() else {}
    return {name: known.get(name) or generate() for name, generate in _GENERATORS.items()}


def addresses(stack: "Stack") -> dict[str, str]:
    """Settings that point to this stack's servers, without those the user's environment points elsewhere."""
    port, secret, host = stack.ports, stack.secrets, "127.0.0.1"
    database = f"{host}:{port['postgres']}/lyceum"
    values = {
        "LYCEUM_ENVIRONMENT": "development",
        "LYCEUM_DATABASE__URL": f"postgresql+asyncpg://lyceum:{secret[APP_PASSWORD]}@{database}",
        "LYCEUM_DATABASE__OWNER_URL": f"postgresql+asyncpg://lyceum_owner:{secret[OWNER_PASSWORD]}@{database}",
        "LYCEUM_REDIS__URL": f"redis://:{secret[VALKEY_PASSWORD]}@{host}:{port['valkey']}/0",
        "LYCEUM_RABBITMQ__URL": f"amqp://lyceum:{secret[RABBITMQ_PASSWORD]}@{host}:{port['rabbitmq']}/",
        "LYCEUM_TEMPORAL__ADDRESS": f"{host}:{port['temporal']}",
        "LYCEUM_TEMPORAL__UI_URL": f"http://{host}:{port['temporal_ui']}",
        "LYCEUM_S3__ENDPOINT_URL": f"http://{host}:{port['s3']}",
        "LYCEUM_OPENSEARCH__URL": f"http://{host}:{port['opensearch']}",
        "LYCEUM_SMTP__URL": f"smtp://{host}:{port['smtp']}",
        "LYCEUM_STRIPE__API_BASE": f"http://{host}:{port['stripe']}",
        "LYCEUM_API__PORT": str(port["api"]),
        "LYCEUM_API__PUBLIC_URL": f"http://{host}:{port['api']}",
        "LYCEUM_CODEC_SERVER__PORT": str(port["codec_server"]),
        "LYCEUM_CODEC_SERVER__LOCAL": "true",
        "LYCEUM_CODEC_SERVER__UI_ORIGIN": f"http://{host}:{port['temporal_ui']}",
    }
    for given, follows in _FOLLOWING.items():
        if stack.external(given):
            del values[follows]
    return {name: value for name, value in values.items() if not stack.environ.get(name)}


def write(path: Path, values: Mapping[str, str]) -> None:
    """Replaces the env file at once, mode 0600."""
    lines = [f'{name}="{_escape(value)}"\n' for name, value in values.items()]
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("# Written by the embedded stack. Secrets are kept, addresses follow the ports.\n")
        file.writelines(lines)
    fresh.replace(path)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
