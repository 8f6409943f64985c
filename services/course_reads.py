"""Reading courses, outlines and lessons: who may see what is part of each statement, and each is one statement.

Outlines and lessons are most of all traffic, so PostgreSQL builds their JSON and nobody parses it on the way out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from domain.courses import AccessRequired, CourseNotFound, CourseStatus, LessonNotFound
from domain.enrollments import LIVE
from domain.identity import Permission, Principal
from models.course import Course
from models.enrollment import Enrollment
from models.identity import User
from services.enrollments import LIVE_LIST
from services.paging import keyset

OUTLINE: Final = """
select json_build_object(
  'id', c.id, 'title', c.title, 'slug', c.slug, 'summary', c.summary, 'language', c.language, 'level', c.level,
  'category', c.category, 'status', c.status, 'version', c.version,
  'price', case when c.price_amount is not null
                then json_build_object('amount', c.price_amount, 'currency', c.price_currency) end,
  'modules', coalesce((
    select json_agg(json_build_object(
             'id', m.id, 'title', m.title, 'position', m.position,
             'lessons', coalesce((
               select json_agg(json_build_object(
                        'id', l.id, 'title', l.title, 'position', l.position,
                        'has_video', l.video_upload_id is not null,
                        'attachments', (select count(*) from lesson_attachments a where a.lesson_id = l.id))
                      order by l.position)
               from lessons l where l.module_id = m.id), '[]'::json))
           order by m.position)
    from modules m where m.course_id = c.id), '[]'::json))
"""
"""The outline of the row `c` of courses."""

_MAY_READ: Final = f"""
($2::boolean or c.owner_id = $3::uuid or exists (
  select from enrollments e
  where e.student_id = $3::uuid and e.course_id = c.id and e.status in ({LIVE_LIST})))
"""
"""Whether $3, who manages all courses if $2, may read the row `c` of courses whatever its status."""

_READ_OUTLINE: Final = f"""
select coalesce(c.outline, ({OUTLINE})::text), c.version
from courses c
where c.id = $1 and (c.status = 'published' or {_MAY_READ})
"""  # noqa: S608  (constants only)

_READ_LESSON: Final = f"""
select c.id as course_id, c.status, c.version, may.read,
  case when may.read then json_build_object(
    'id', l.id, 'course_id', l.course_id, 'module_id', l.module_id, 'title', l.title, 'position', l.position,
    'body', l.body, 'body_html', l.body_html, 'created_at', l.created_at, 'updated_at', l.updated_at)::text
  end as body,
  (select json_agg(json_build_object(
            'id', u.id, 'filename', u.filename, 'content_type', u.content_type, 'size', u.size,
            'video', u.id = l.video_upload_id) order by a.position)::text
   from uploads u left join lesson_attachments a on a.upload_id = u.id
   where may.read and (u.id = l.video_upload_id or a.lesson_id = l.id)) as files
from lessons l
join courses c on c.id = l.course_id
cross join lateral (select {_MAY_READ} as read) may
where l.id = $1
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class OutlineText:
    """An outline as JSON text."""

    version: int
    json: str


@dataclass(frozen=True, slots=True)
class LessonText:
    """A lesson as the text of a JSON object, without its files; `files` is the text of a JSON array, None for none.

    `version` is its course's.
    """

    version: int
    json: str
    files: str | None


def _reader(principal: Principal | None) -> tuple[bool, UUID | None]:
    if principal is None:
        return False, None
    return principal.can(Permission.COURSE_MANAGE), principal.user_id


async def outline(db: Database, reader: Principal | None, course_id: UUID) -> OutlineText:
    """Modules and lessons by title: of a published course for everybody, else for its teacher and its students."""
    row = await db.fetch_row(_READ_OUTLINE, course_id, *_reader(reader))
    if row is None:
        raise CourseNotFound("There is no such course.")
    return OutlineText(json=row[0], version=row[1])


async def lesson(db: Database, reader: Principal, lesson_id: UUID) -> LessonText:
    """A lesson for students of its course, its teacher and admins; raises `AccessRequired` for others."""
    row = await db.fetch_row(_READ_LESSON, lesson_id, *_reader(reader))
    if row is not None and row["read"]:
        return LessonText(version=row["version"], json=row["body"], files=row["files"])
    if row is None or row["status"] != CourseStatus.PUBLISHED:
        raise LessonNotFound("There is no such lesson.")
    outline_path = f"/v1/courses/{row['course_id']}/outline"
    raise AccessRequired(f"Only students of the course can read its lessons. What it teaches: {outline_path}")


async def course(session: AsyncSession, reader: Principal | None, course_id: UUID) -> tuple[Course, str]:
    """A course and its teacher's name: a published one for everybody, else for its teacher and its students."""
    query = select(Course, User.name).join(User, User.id == Course.owner_id).where(Course.id == course_id)
    if reader is None:
        query = query.where(Course.status == CourseStatus.PUBLISHED)
    elif not reader.can(Permission.COURSE_MANAGE):
        studies = exists().where(
            Enrollment.course_id == Course.id, Enrollment.student_id == reader.user_id, Enrollment.status.in_(LIVE)
        )
        query = query.where(or_(Course.status == CourseStatus.PUBLISHED, Course.owner_id == reader.user_id, studies))
    row = (await session.execute(query)).one_or_none()
    if row is None:
        raise CourseNotFound("There is no such course.")
    return row[0], row[1]


async def taught(
    session: AsyncSession, teacher_id: UUID, *, after: tuple[UUID] | None, limit: int
) -> Sequence[tuple[Course, str]]:
    """The teacher's courses with the teacher's name, newest first; up to `limit` + 1 rows."""
    query = select(Course, User.name).join(User, User.id == Course.owner_id).where(Course.owner_id == teacher_id)
    rows = await session.execute(keyset(query, Course.id, after=after, limit=limit))
    return [(course, name) for course, name in rows]
