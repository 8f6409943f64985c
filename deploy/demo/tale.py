"""What happened, as the report needs it. Filled by the story, read by the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Chapter:
    """A finished part of the story. `error` says why it failed."""

    title: str
    seconds: float
    facts: Sequence[str] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Timeline:
    """A process as its student reads it."""

    title: str
    entries: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Rescue:
    """The purchase during which the worker died. Moments are seconds after the kill."""

    old_pid: int
    new_pid: int
    charged: float
    restarted: float
    granted: float


@dataclass(frozen=True, slots=True)
class Link:
    """Something to open; `hint` says what is to be seen."""

    name: str
    url: str
    hint: str


@dataclass(slots=True)
class Tale:
    """The whole story, as far as it was told."""

    run: str
    chapters: list[Chapter] = field(default_factory=list)
    timelines: list[Timeline] = field(default_factory=list)
    rescue: Rescue | None = None
    ledger: list[dict[str, Any]] = field(default_factory=list)
    event: dict[str, Any] | None = None
    events_seen: int = 0
    mail: dict[str, str] | None = None
    links: list[Link] = field(default_factory=list)
    accounts: list[tuple[str, str]] = field(default_factory=list)
    password: str = ""

    @property
    def failure(self) -> str:
        """Why the story broke off; empty when it did not."""
        return next((chapter.error for chapter in self.chapters if chapter.error), "")

    @property
    def seconds(self) -> float:
        return sum(chapter.seconds for chapter in self.chapters)
