"""What of an error a trace tells whoever collects it."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from core.redaction import Redacting

SECRET = "Key (email)=(ada@example.com) already exists"


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exported: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Redacting(exported)))
    return provider


def test_an_exception_is_told_by_its_class(provider: TracerProvider, exported: InMemorySpanExporter) -> None:
    tracer = provider.get_tracer("library", "1.2")
    with (
        tracer.start_as_current_span("request"),
        pytest.raises(ValueError, match="ada@example"),
        tracer.start_as_current_span("INSERT", kind=SpanKind.CLIENT, attributes={"db.system": "postgresql"}),
    ):
        raise ValueError(SECRET)  # the SDK itself records it and writes the status
    failed, request = exported.get_finished_spans()
    assert SECRET not in failed.to_json()
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "ValueError")
    [event] = failed.events
    assert event.name == "exception"
    assert dict(event.attributes or {}) == {"exception.type": "ValueError", "exception.escaped": "False"}
    assert (failed.name, failed.kind, dict(failed.attributes or {})) == (
        "INSERT",
        SpanKind.CLIENT,
        {"db.system": "postgresql"},
    )
    assert failed.parent == request.context
    assert failed.instrumentation_scope == request.instrumentation_scope
    assert (request.status.status_code, request.events) == (StatusCode.UNSET, ())


@pytest.mark.parametrize(
    ("description", "told"),
    [
        (f"asyncpg.exceptions.UniqueViolationError: {SECRET}", "asyncpg.exceptions.UniqueViolationError"),
        ("StripeRefused", "StripeRefused"),
        (SECRET, "Key"),
        (None, ""),
    ],
)
def test_a_status_is_cut_to_the_class(
    provider: TracerProvider, exported: InMemorySpanExporter, description: str | None, told: str
) -> None:
    with provider.get_tracer("library").start_as_current_span("step") as span:
        span.set_status(Status(StatusCode.ERROR, description))
    [step] = exported.get_finished_spans()
    assert (step.status.status_code, step.status.description or "") == (StatusCode.ERROR, told)
