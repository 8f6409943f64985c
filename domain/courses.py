"""What a course is made of, when it may be published, and how its modules and lessons are ordered."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

from domain.errors import Conflict, DomainError, FieldError, Forbidden, Invalid, Kind, NotFound
from domain.money import validate_price
from domain.texts import is_one_line

MAX_MODULES: Final = 100
MAX_LESSONS: Final = 500
"""Lessons in one course, over all its modules."""
MAX_ATTACHMENTS: Final = 20
MAX_TAGS: Final = 10
MAX_CAPACITY: Final = 1_000_000
TITLE_LENGTH: Final = 160
SUMMARY_LENGTH: Final = 300
DESCRIPTION_LENGTH: Final = 20_000
BODY_LENGTH: Final = 100_000
TAG_LENGTH: Final = 40


class CourseStatus(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    UNPUBLISHED = "unpublished"


class Level(StrEnum):
    BEGINNER = "beginner"
    INTERMEDIATE = "intermediate"
    ADVANCED = "advanced"


class Category(StrEnum):
    """The catalogue; a value never changes its meaning, because courses and search filters hold it."""

    PROGRAMMING = "programming"
    DATA_SCIENCE = "data-science"
    DESIGN = "design"
    BUSINESS = "business"
    MARKETING = "marketing"
    FINANCE = "finance"
    LANGUAGES = "languages"
    MATHEMATICS = "mathematics"
    SCIENCE = "science"
    ENGINEERING = "engineering"
    HUMANITIES = "humanities"
    ARTS = "arts"
    MUSIC = "music"
    PHOTOGRAPHY = "photography"
    WRITING = "writing"
    HEALTH = "health"
    COOKING = "cooking"
    PERSONAL_DEVELOPMENT = "personal-development"
    TEACHING = "teaching"


class CourseIncomplete(Conflict):
    """`errors` names every reason why the course cannot be (or stay) published."""

    title = "The course is not complete"


class CourseChanged(DomainError):
    """Somebody changed the course since the version the client holds."""

    kind = Kind.PRECONDITION_FAILED
    title = "The course has changed"


class CourseNotPublished(Conflict):
    title = "The course is not published"


class CourseNotDeletable(Conflict):
    """Only a course that never was published may be deleted."""

    title = "The course cannot be deleted"


class CourseNotFound(NotFound):
    title = "No such course"


class ModuleNotFound(NotFound):
    title = "No such module"


class LessonNotFound(NotFound):
    title = "No such lesson"


class AccessRequired(Forbidden):
    """Only students of the course may read it; the outline is open to everybody."""

    title = "Access to the course is required"


class LimitReached(DomainError):
    """A course has as many of something as it may have."""

    kind = Kind.CONFLICT
    title = "A limit is reached"


class OrderMismatch(Invalid):
    """An order must name every module and lesson of the course exactly once."""

    title = "The order does not match the course"


@dataclass(frozen=True, slots=True)
class LessonSketch:
    """What the publishing rules look at in a lesson."""

    title: str
    has_content: bool


@dataclass(frozen=True, slots=True)
class ModuleSketch:
    title: str
    lessons: Sequence[LessonSketch]


@dataclass(frozen=True, slots=True)
class CourseSketch:
    """What the publishing rules look at in a course; both parts of the price None means free.

    A `published` course grows: a module of it may wait for its first lesson while another one has some.
    """

    published: bool
    summary: str
    description: str
    category: str | None
    price_amount: int | None
    price_currency: str | None
    modules: Sequence[ModuleSketch]


def publish_problems(course: CourseSketch) -> list[FieldError]:
    """Every reason why this course cannot be, or stay, published; empty when it can."""
    problems: list[FieldError] = []
    if not course.summary.strip():
        problems.append(FieldError("summary", "Say in a sentence or two what the course is about.", "missing"))
    if not course.description.strip():
        problems.append(FieldError("description", "Describe the course.", "missing"))
    if course.category is None:
        problems.append(FieldError("category", "Choose a category.", "missing"))
    problems.extend(price_problems(course.price_amount, course.price_currency))
    if not course.modules:
        problems.append(FieldError("modules", "Add at least one module with a lesson.", "missing"))
    may_wait = course.published and any(module.lessons for module in course.modules)
    for number, module in enumerate(course.modules):
        field = f"modules.{number}.lessons"
        if not module.lessons and not may_wait:
            problems.append(FieldError(field, f"The module “{module.title}” has no lesson.", "missing"))
        problems.extend(
            FieldError(f"{field}.{index}.body", f"The lesson “{lesson.title}” has neither text nor video.", "missing")
            for index, lesson in enumerate(module.lessons)
            if not lesson.has_content
        )
    return problems


def price_problems(amount: int | None, currency: str | None) -> Sequence[FieldError]:
    """Why this cannot be a course's price; empty when it can. Both None means free."""
    try:
        validate_price(amount, currency)
    except Invalid as refusal:
        return refusal.errors
    return ()


def require_publishable(course: CourseSketch) -> None:
    """Raises `CourseIncomplete` with every reason unless the course may be, or stay, published."""
    problems = publish_problems(course)
    if problems:
        raise CourseIncomplete("The course cannot be published until it is complete.", errors=problems)


@dataclass(frozen=True, slots=True)
class ModuleOrder:
    """A module and its lessons in the order wished for."""

    id: UUID
    lessons: Sequence[UUID]


def check_order(proposed: Sequence[ModuleOrder], modules: Collection[UUID], lessons: Collection[UUID]) -> None:
    """Raises `OrderMismatch`, naming each field, unless `proposed` has exactly these modules and lessons."""
    wished_modules = {f"modules.{number}.id": module.id for number, module in enumerate(proposed)}
    wished_lessons = {
        f"modules.{number}.lessons.{index}": lesson
        for number, module in enumerate(proposed)
        for index, lesson in enumerate(module.lessons)
    }
    errors = _mismatches("module", wished_modules, modules) + _mismatches("lesson", wished_lessons, lessons)
    if errors:
        raise OrderMismatch("The order must name every module and lesson of the course exactly once.", errors=errors)


def _mismatches(noun: str, wished: Mapping[str, UUID], actual: Collection[UUID]) -> list[FieldError]:
    counts = Counter(wished.values())
    errors = [
        FieldError(field, f"This {noun} does not belong to the course.", "unknown")
        if id_ not in actual
        else FieldError(field, f"This {noun} is named more than once.", "duplicate")
        for field, id_ in wished.items()
        if id_ not in actual or counts[id_] > 1
    ]
    missing = sorted(set(actual) - counts.keys())
    return errors + [FieldError("modules", f"The {noun} {id_} is missing.", "missing") for id_ in missing]


def course_slug(title: str, course_id: UUID) -> str:
    """A readable name for URLs, unique by the random tail of the course's id: `fresh-bread-9f04c1d2`."""
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_title).strip("-")[:80].rstrip("-")
    return f"{words or 'course'}-{course_id.hex[-8:]}"


# The well-formed part of RFC 5646 that names a language people teach in: language, script, region, variants.
_LANGUAGE = re.compile(
    r"(?P<language>[a-z]{2,3})(-(?P<script>[a-z]{4}))?(-(?P<region>[a-z]{2}|\d{3}))?"
    r"(?P<variants>(-([a-z0-9]{5,8}|\d[a-z0-9]{3}))*)",
    re.ASCII,
)


def language_tag(tag: str) -> str:
    """A BCP 47 tag in its canonical case (`PT-br` → `pt-BR`); raises `ValueError` for anything else."""
    match = _LANGUAGE.fullmatch(tag.lower())
    if match is None:
        raise ValueError("a BCP 47 language tag such as en, pt-BR or zh-Hant is expected")
    script, region = match["script"], match["region"]
    parts = [match["language"], script.title() if script else "", region.upper() if region else ""]
    return "-".join(part for part in parts if part) + match["variants"]


def normalize_tags(tags: Sequence[str]) -> list[str]:
    """Tags in lower case with single spaces, each once, in the order given; raises `ValueError` for a bad one."""
    cleaned = list(dict.fromkeys(" ".join(unicodedata.normalize("NFC", tag).lower().split()) for tag in tags))
    if any(not tag or len(tag) > TAG_LENGTH or not is_one_line(tag) for tag in cleaned):
        raise ValueError(f"a tag has 1 to {TAG_LENGTH} printable characters")
    if len(cleaned) > MAX_TAGS:
        raise ValueError(f"a course has at most {MAX_TAGS} tags")
    return cleaned
