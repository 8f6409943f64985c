import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from core.messaging.envelope import Envelope, MalformedEvent, decode, encode
from domain.contracts.events import EVENTS, EnrollmentGranted

_ID = UUID("0190f1f2-3c4d-7e8f-9a0b-1c2d3e4f5a6b")
_TIME = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
_EVENT = EnrollmentGranted(enrollment_id=_ID, course_id=_ID, student_id=_ID, source="free")
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _body(traceparent: str | None = _TRACE) -> bytes:
    return encode(_ID, _EVENT.type, _EVENT.subject, _TIME, _EVENT.model_dump_json(), traceparent)


def test_writes_cloudevents_in_structured_mode() -> None:
    assert json.loads(_body()) == {
        "specversion": "1.0",
        "id": str(_ID),
        "source": "/lyceum",
        "type": "enrollment.granted.v1",
        "subject": f"enrollment/{_ID}",
        "time": "2026-03-01T12:30:15.250000Z",
        "datacontenttype": "application/json",
        "data": {"enrollment_id": str(_ID), "course_id": str(_ID), "student_id": str(_ID), "source": "free"},
        "traceparent": _TRACE,
    }


@pytest.mark.parametrize("traceparent", [_TRACE, None])
def test_reads_what_it_wrote(traceparent: str | None) -> None:
    assert decode(_body(traceparent)) == Envelope(_ID, f"enrollment/{_ID}", _TIME, _EVENT, traceparent)


def test_a_field_of_a_later_release_is_skipped() -> None:
    body = json.loads(_body())
    body["data"]["colour"] = "blue"
    body["later"] = 1
    assert decode(json.dumps(body).encode()).event == _EVENT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": "0.3"}, "CloudEvents 0.3 is not spoken here"),
        ({"type": "enrollment.granted.v9"}, "enrollment.granted.v9 is not a known event type"),
        ({"id": "7"}, "id: uuid_parsing"),
        ({"time": "2026-03-01T12:30:15"}, "time: timezone_aware"),
        ({"data": {"course_id": "secret"}}, "enrollment_id: missing, course_id: uuid_parsing, student_id: missing"),
    ],
)
def test_refuses_without_quoting(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedEvent) as refused:
        decode(json.dumps(json.loads(_body()) | change).encode())
    assert str(refused.value) == message


def test_every_event_holds_ids_and_small_facts_only() -> None:
    allowed = {UUID, str, bool, int}
    texts = {"reason", "source", "stripe_event_id"}
    for kind, event in EVENTS.items():
        assert kind == event.type
        for name, field in event.model_fields.items():
            assert field.annotation in allowed, f"{kind}.{name}"
            assert field.annotation is not str or name in texts, f"{kind}.{name} may hold personal data"
