"""What a course looks like in the index, built from PostgreSQL and nothing else."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from markdown_it import MarkdownIt
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from domain.courses import CourseStatus
from models.course import Course

MARK_START, MARK_END = "\ue000", "\ue001"
"""Stand around highlighted words until the text is escaped; no indexed text contains them."""

GONE = 2**62
"""The version that nothing may follow: the course's row is gone."""

_TITLE_SORT_LENGTH = 100
_MARKS = dict.fromkeys(map(ord, MARK_START + MARK_END))
_MARKDOWN = MarkdownIt()
_COURSES = select(Course).options(defer(Course.description_html))


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index should hold for a course as of `version`; `document` None: nothing."""

    id: UUID
    version: int
    document: dict[str, Any] | None


async def read_entry(session: AsyncSession, course_id: UUID) -> Entry:
    """The truth about one course."""
    course = await session.scalar(_COURSES.where(Course.id == course_id))
    return Entry(course_id, GONE, None) if course is None else _entry(course)


async def read_published(session: AsyncSession, *, after: UUID | None, limit: int) -> Sequence[Entry]:
    """Up to `limit` published courses in the order of their ids, from `after` on."""
    statement = _COURSES.where(Course.status == CourseStatus.PUBLISHED).order_by(Course.id).limit(limit)
    if after is not None:
        statement = statement.where(Course.id > after)
    return [_entry(course) for course in await session.scalars(statement)]


async def any_published(session: AsyncSession) -> bool:
    found = await session.scalar(select(Course.id).where(Course.status == CourseStatus.PUBLISHED).limit(1))
    return found is not None


def plain_text(markdown: str) -> str:
    """The words of a Markdown text without its markup, white space collapsed."""
    parts: list[str] = []
    for token in _MARKDOWN.parse(markdown):
        if token.type == "inline":
            parts.append(
                "".join(" " if child.type.endswith("break") else child.content for child in token.children or ())
            )
        elif token.type in ("fence", "code_block"):
            parts.append(token.content)
    return " ".join(" ".join(parts).split())


def title_sort_key(title: str) -> str:
    """Sorts titles as people expect: accents and case do not count."""
    decomposed = unicodedata.normalize("NFKD", title.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).strip()[:_TITLE_SORT_LENGTH]


def _entry(course: Course) -> Entry:
    if course.status != CourseStatus.PUBLISHED:
        return Entry(course.id, course.version, None)
    return Entry(
        course.id,
        course.version,
        {
            "id": str(course.id),
            "slug": course.slug,
            "title": course.title.translate(_MARKS),
            "title_sort": title_sort_key(course.title),
            "summary": course.summary.translate(_MARKS),
            "description": plain_text(course.description).translate(_MARKS),
            "tags": list(course.tags),
            "category": course.category,
            "level": course.level,
            "language": course.language,
            "price": "free" if course.price_amount is None else "paid",
            "price_amount": course.price_amount or 0,
            "price_currency": course.price_currency,
            "published_at": course.published_at,
        },
    )
