"""What a span tells outside: which error it was, never its message or stack trace. Those quote data."""

import re
from collections.abc import Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Status

_UNTOLD = frozenset({"exception.message", "exception.stacktrace"})
_NO_CLASS = re.compile(r"[^\w.]")


class Redacting(SpanExporter):
    """Passes spans on without what their libraries recorded of exceptions beyond the class."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_redacted(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _redacted(span: ReadableSpan) -> ReadableSpan:
    if not span.events and not span.status.description:
        return span
    return ReadableSpan(
        span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_redacted_event(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        # Libraries write `f"{type}: {message}"`.
        status=Status(span.status.status_code, _NO_CLASS.split(span.status.description or "", 1)[0]),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _redacted_event(event: Event) -> Event:
    told = {name: value for name, value in (event.attributes or {}).items() if name not in _UNTOLD}
    return Event(event.name, told, event.timestamp)
