"""Logs, traces and metrics of one process: `telemetry.setup(settings, "relay")` first thing in its entry point.

Traces go to an OTLP collector when one is configured; without one nothing is recorded, and a caller's trace context
still travels on through outbox rows, AMQP headers and workflows.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from core import logs
from core.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

_tracer = trace.get_tracer("lyceum")


def setup(settings: Settings, service: str) -> None:
    """Configures logging, and tracing where `telemetry.otlp_endpoint` is set. `service` is e.g. `api` or `relay`."""
    logs.configure(settings.telemetry, service)
    if settings.telemetry.otlp_endpoint:
        _export_traces(settings.telemetry.otlp_endpoint, service, settings.environment)


def _export_traces(endpoint: str, service: str, environment: str) -> None:
    # Imported here: processes that export nothing need not hold the SDK in memory.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from core.redaction import Redacting
    from core.sampling import sampler

    provider = TracerProvider(
        sampler=sampler(),
        resource=Resource.create(
            {
                "service.name": f"lyceum-{service}",
                "service.namespace": "lyceum",
                "deployment.environment.name": environment,
            }
        ),
    )
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(Redacting(exporter)))
    trace.set_tracer_provider(provider)
    AsyncPGInstrumentor().instrument()  # type: ignore[no-untyped-call]


def flush() -> None:
    """Exports the spans that are still held. A server that ends by its signal leaves no other moment for it."""
    force_flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force_flush is not None:
        force_flush()


def instrument_app(app: "FastAPI", settings: Settings) -> None:
    """A span for each HTTP request, continuing the caller's trace; nothing where traces are not exported."""
    if not settings.telemetry.otlp_endpoint:
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    # A mailed link carries its token in the query, and spans carry the query.
    FastAPIInstrumentor.instrument_app(app, excluded_urls="healthz,readyz,metrics,verify-email")


def current_traceparent() -> str | None:
    """The W3C `traceparent` of the current span, to be stored with work that goes on elsewhere."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def span(
    name: str,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
) -> Iterator[Span]:
    """A span; `parent` is a stored `traceparent` to continue from, else the current one is the parent."""
    context = propagate.extract({"traceparent": parent}) if parent else None
    with _tracer.start_as_current_span(
        name, context=context, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            # The class only: messages may quote data, and traces leave the house.
            current.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
