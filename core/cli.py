"""The `lyceum` command. Each subcommand names the function that runs it; modules are imported only when called."""

import importlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Lyceum: an open LMS and course marketplace.", no_args_is_help=True, pretty_exceptions_enable=False
)


def _call(target: str, *args: Any, **kwargs: Any) -> Any:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function(*args, **kwargs)


def _attempt(target: str, **kwargs: Any) -> None:
    """`_call` for what a person runs and waits for: a server that is away is one line, not a traceback."""
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries log of it they raise as well
    try:
        _call(target, **kwargs)
    except Exception as error:
        if not _call("core.messaging.failures:is_transient", error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        typer.echo(f"A server that this needs does not answer. {_call('core.logs:mask', reason)}", err=True)
        raise typer.Exit(1) from None


def _group(name: str, help: str) -> typer.Typer:
    group = typer.Typer(help=help, no_args_is_help=True)
    app.add_typer(group, name=name)
    return group


db, search, events, admin = (
    _group("db", "The database schema."),
    _group("search", "The search index."),
    _group("events", "Integration events."),
    _group("admin", "Administrators."),
)


@app.command()
def api() -> None:
    """Serve the HTTP API."""
    _call("api.main:run")


@app.command()
def worker(
    queue: Annotated[list[str] | None, typer.Option(help="core, stripe, bulk; repeatable. Default: all.")] = None,
) -> None:
    """Run Temporal workflows and activities."""
    _call("workflows.worker:run", queue or ["core", "stripe", "bulk"])


@app.command()
def relay() -> None:
    """Publish the outbox to RabbitMQ."""
    _call("core.messaging.relay:run")


@app.command()
def consume(name: Annotated[str, typer.Argument(help="search, notifications or processes")]) -> None:
    """Handle events from RabbitMQ."""
    _call("core.messaging.loop:run", name)


@app.command("codec-server")
def codec_server() -> None:
    """Decrypt Temporal payloads for signed-in operators."""
    _call("core.codec_server:run")


@app.command("stripe-sandbox")
def stripe_sandbox() -> None:
    """Serve the Stripe stand-in (never beyond loopback)."""
    _call("deploy.stripe_sandbox.main:run")


@app.command()
def setup() -> None:
    """Migrations, topology, bucket, indexes, search attributes: everything the processes expect. Safe to repeat."""
    _call("deploy.setup:run")


@db.command()
def upgrade() -> None:
    """Apply the migrations as the schema owner."""
    _attempt("deploy.setup:migrate")


@search.command()
def reindex() -> None:
    """Rebuild the course index behind its alias, without downtime."""
    _attempt("search.reindex:run")


@events.command()
def replay(
    since: Annotated[datetime | None, typer.Option(help="First event, by time (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Last event, by time (UTC).")] = None,
    from_seq: Annotated[int | None, typer.Option(help="First event, by sequence number.")] = None,
    to_seq: Annotated[int | None, typer.Option(help="Last event, by sequence number.")] = None,
    type: Annotated[str | None, typer.Option(help="Only this type, e.g. order.paid.v1.")] = None,
    consumer: Annotated[str | None, typer.Option(help="Only to this consumer's queue.")] = None,
    force: Annotated[bool, typer.Option(help="Handle again what was handled before.")] = False,
) -> None:
    """Publish a range of past events once more."""
    _attempt(
        "core.messaging.replay:run",
        since=since,
        until=until,
        from_seq=from_seq,
        to_seq=to_seq,
        type=type,
        consumer=consumer,
        force=force,
    )


@admin.command()
def create(
    email: Annotated[str, typer.Option(prompt=True)],
    name: Annotated[str, typer.Option(prompt=True)],
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, envvar="LYCEUM_ADMIN_PASSWORD")],
) -> None:
    """Create an administrator (or make an existing account one)."""
    _attempt("services.admin:create", email=email, name=name, password=password)


@app.command()
def up(
    detach: Annotated[bool, typer.Option(help="Return when everything is ready.")] = False,
    infra: Annotated[bool, typer.Option(help="Only the servers, none of our own processes.")] = False,
) -> None:
    """Start the whole stack on this machine."""
    _call("deploy.local.commands:up", detach=detach, infra=infra)


@app.command()
def down() -> None:
    """Stop the stack; its data stays."""
    _call("deploy.local.commands:down")


@app.command()
def status(json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """List every service and process."""
    _call("deploy.local.commands:status", json=json)


@app.command()
def reset() -> None:
    """Stop the stack and forget its data."""
    _call("deploy.local.commands:reset")


@app.command()
def demo(exit: Annotated[bool, typer.Option("--exit", help="Stop the stack after the report.")] = False) -> None:
    """Start the stack and tell the story of four purchases."""
    _call("deploy.local.commands:demo", exit=exit)


def main() -> None:
    app()
