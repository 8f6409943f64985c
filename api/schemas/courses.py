"""Courses, their modules and their outline."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from api.schemas.base import Id, Lenient, RequestModel, ResponseModel
from domain.courses import (
    DESCRIPTION_LENGTH,
    MAX_CAPACITY,
    MAX_LESSONS,
    MAX_MODULES,
    MAX_TAGS,
    SUMMARY_LENGTH,
    TAG_LENGTH,
    TITLE_LENGTH,
    Category,
    CourseStatus,
    Level,
    language_tag,
    normalize_tags,
)
from domain.texts import is_one_line


def _line(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("one line without control characters is expected")
    return text


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL cannot be stored")
    return text


Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=TITLE_LENGTH), AfterValidator(_line)
]
Markdown = Annotated[str, AfterValidator(_storable)]
Language = Annotated[str, StringConstraints(max_length=35), AfterValidator(language_tag)]


class Price(RequestModel):
    amount: int = Field(description="Minor units.", examples=[4900])
    currency: str = Field(description="Lower-case ISO 4217.", examples=["usd"])


# A default factory keeps a field optional without showing a default that is not used.
class CourseUpdate(RequestModel):
    """What is left out stays as it is."""

    title: Title = Field(default_factory=str)
    summary: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=SUMMARY_LENGTH), AfterValidator(_line)
    ] = Field(default_factory=str)
    description: Markdown = Field(default_factory=str, max_length=DESCRIPTION_LENGTH, description="Markdown.")
    language: Language = Field(default_factory=str, description="BCP 47, e.g. `en` or `pt-BR`.", examples=["en"])
    level: Annotated[Level, Lenient] = Field(default_factory=lambda: Level.BEGINNER)
    category: Annotated[Category, Lenient] | None = None
    tags: Annotated[
        list[Annotated[str, StringConstraints(max_length=4 * TAG_LENGTH)]],
        Field(max_length=2 * MAX_TAGS),
        AfterValidator(normalize_tags),
    ] = Field(default_factory=list)
    price: Price | None = Field(default=None, description="Null is free.")
    capacity: int | None = Field(default=None, ge=1, le=MAX_CAPACITY, description="Seats; null is no limit.")


class CourseCreate(CourseUpdate):
    """A new draft: everything but the title may follow later."""

    title: Title


class PriceRead(ResponseModel):
    amount: int = Field(description="Minor units.")
    currency: str


class TeacherRead(ResponseModel):
    id: UUID
    name: str


class CourseRead(ResponseModel):
    id: UUID
    teacher: TeacherRead
    title: str
    slug: str
    summary: str
    description: str = Field(description="Markdown.")
    description_html: str = Field(description="The description, rendered; safe to show.")
    language: str
    level: Level
    category: Category | None
    tags: list[str]
    price: PriceRead | None = Field(description="Null is free.")
    capacity: int | None = Field(description="Null is no limit.")
    status: CourseStatus
    published_at: AwareDatetime | None = Field(description="When it was published first.")
    version: int = Field(description="Rises with every change; also the ETag.")
    created_at: AwareDatetime
    updated_at: AwareDatetime


class ModuleWrite(RequestModel):
    title: Title


class ModuleRead(ResponseModel):
    id: UUID
    course_id: UUID
    title: str
    position: int


class ModuleOrderWrite(RequestModel):
    id: Id
    lessons: list[Id] = Field(max_length=MAX_LESSONS)


class CourseOrderWrite(RequestModel):
    """Every module and every lesson of the course, once each, in the order wished for."""

    modules: list[ModuleOrderWrite] = Field(max_length=MAX_MODULES)


class OutlineLesson(ResponseModel):
    id: UUID
    title: str
    position: int
    has_video: bool
    attachments: int


class OutlineModule(ResponseModel):
    id: UUID
    title: str
    position: int
    lessons: list[OutlineLesson]


class OutlineRead(ResponseModel):
    """What a course teaches: titles, no content."""

    id: UUID
    title: str
    slug: str
    summary: str
    language: str
    level: Level
    category: Category | None
    status: CourseStatus
    version: int
    price: PriceRead | None
    modules: list[OutlineModule]
