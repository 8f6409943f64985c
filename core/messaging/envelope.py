"""The event on the wire: CloudEvents 1.0, JSON, structured mode."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ValidationError

from domain.contracts.events import EVENTS, Event

CONTENT_TYPE = "application/cloudevents+json"
SOURCE = "/lyceum"


class MalformedEvent(ValueError):
    """The message is no event this release knows; handing it out again would not help."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event as a consumer gets it. `id` is the same however often it is delivered."""

    id: UUID
    subject: str
    time: datetime
    event: Event
    traceparent: str | None = None


class _Wire(BaseModel):
    specversion: str
    id: UUID
    type: str
    subject: str
    time: AwareDatetime
    data: dict[str, object]
    traceparent: str | None = None


def encode(event_id: UUID, kind: str, subject: str, time: datetime, data: str, traceparent: str | None) -> bytes:
    """The message body. `data` is the event's fields, already JSON."""
    attributes = {
        "specversion": "1.0",
        "id": str(event_id),
        "source": SOURCE,
        "type": kind,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        "data": orjson.Fragment(data),
    }
    if traceparent is not None:
        attributes["traceparent"] = traceparent
    return orjson.dumps(attributes, option=orjson.OPT_UTC_Z)


def decode(body: bytes) -> Envelope:
    """Reads a message body; raises `MalformedEvent`."""
    try:
        wire = _Wire.model_validate_json(body)
        if wire.specversion != "1.0":
            raise MalformedEvent(f"CloudEvents {wire.specversion} is not spoken here")
        if wire.type not in EVENTS:
            raise MalformedEvent(f"{wire.type} is not a known event type")
        event = EVENTS[wire.type].model_validate(wire.data)
    except ValidationError as error:
        # The input itself stays out of the message: it may hold anything.
        problems = ", ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False))
        raise MalformedEvent(problems) from None
    return Envelope(wire.id, wire.subject, wire.time, event, wire.traceparent)
