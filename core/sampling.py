"""Which traces are kept: all that something caused, and none that only a polling loop's queries would make."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class _Caused(Sampler):
    """Drops a call to a backing service that is nobody's child."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        kept = kind is not SpanKind.CLIENT
        return SamplingResult(Decision.RECORD_AND_SAMPLE if kept else Decision.DROP, attributes, trace_state)

    def get_description(self) -> str:
        return "Caused"


def sampler() -> Sampler:
    """What has a parent follows its parent's decision."""
    return ParentBased(root=_Caused())
