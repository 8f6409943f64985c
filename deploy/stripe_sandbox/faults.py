"""Faults a test arms: what goes wrong with the next requests, and with deliveries."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Mode = Literal[
    "drop_before", "drop_after_commit", "latency", "latency_after", "429", "409", "500_stored", "500_unstored"
]


class Match(BaseModel):
    """`path` is a glob (`/v1/refunds*`); what is left out matches everything."""

    model_config = ConfigDict(extra="forbid")

    method: str | None = None
    path: str = "*"


class Fault(BaseModel):
    """`latency` sleeps `latency_seconds` while the request holds its idempotency key, before it runs; `latency_after`
    when it has run. With `executed`, a `500_stored` hides a request that did all it was asked."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    match: Match = Match()
    mode: Mode
    times: int = Field(default=1, ge=1)
    latency_seconds: float = Field(default=1.0, ge=0)
    executed: bool = False
    account: str | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _is_used(self) -> Self:
        """Refuse what the mode would ignore."""
        if "executed" in self.model_fields_set and self.mode != "500_stored":
            raise ValueError("executed belongs to 500_stored")
        if "latency_seconds" in self.model_fields_set and self.mode not in ("latency", "latency_after"):
            raise ValueError("latency_seconds belongs to latency and latency_after")
        return self

    def hits(self, account: str, method: str, path: str) -> bool:
        """Whether a request of an account is one of those to spoil."""
        return (
            self.account in (None, account)
            and (self.match.method or method).upper() == method
            and fnmatchcase(path, self.match.path)
        )


class DeliveryFaults(BaseModel):
    """What happens to events announced from now on. `drop` true drops all, a number that many, the rest goes out.
    `duplicate` sends each event that many extra times; `reorder` shuffles within a second."""

    model_config = ConfigDict(extra="forbid")

    duplicate: int = Field(default=0, ge=0, le=100)
    reorder: bool = False
    delay_seconds: float = Field(default=0.0, ge=0)
    drop: bool | int = False
    bad_signature: bool = False
    old_timestamp: bool = False


@dataclass(slots=True)
class Faults:
    """Armed faults, in memory: a restart disarms them. `None` as an account means all accounts."""

    armed: list[Fault]
    deliveries: dict[str | None, DeliveryFaults]

    def take(self, account: str, method: str, path: str) -> Fault | None:
        """The fault that spoils this request, spent by one."""
        for fault in self.armed:
            if fault.hits(account, method, path):
                fault.times -= 1
                if fault.times == 0:
                    self.armed.remove(fault)
                return fault
        return None

    def clear(self, account: str | None) -> None:
        """Disarm the faults of an account, or all."""
        self.armed = [fault for fault in self.armed if account is not None and fault.account != account]

    def of_delivery(self, account: str) -> DeliveryFaults:
        """What to do to an event of an account."""
        return self.deliveries.get(account) or self.deliveries.get(None) or DeliveryFaults()
