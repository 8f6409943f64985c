"""Authoring courses: fields, modules, order, publishing. Lessons are in `services/lessons.py`, reads for students in
`services/course_reads.py`.

Every change locks the course's row, so that changes of one course take turns, and ends with `changed`: a published
course stays complete, its version rises, its outline is written anew and others hear of it. A `version` that a change
is given is the course's it was made for.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Final, TypedDict, TypeVar
from uuid import UUID

from sqlalchemy import delete, func, or_, select, text, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from core import clock
from core.ids import new_id
from domain.contracts.events import CoursePublished, CourseUnpublished, CourseUpdated
from domain.courses import (
    MAX_MODULES,
    CourseChanged,
    CourseNotDeletable,
    CourseNotFound,
    CourseNotPublished,
    CourseSketch,
    CourseStatus,
    LessonNotFound,
    LessonSketch,
    Level,
    LimitReached,
    ModuleNotFound,
    ModuleOrder,
    ModuleSketch,
    check_order,
    course_slug,
    require_publishable,
)
from domain.errors import Forbidden
from domain.identity import Permission, Principal
from domain.money import validate_price
from models.course import Course, Lesson, Module
from services import outbox, seats, uploads
from services.course_reads import OUTLINE
from services.markdown import render_aside


class CourseChanges(TypedDict, total=False):
    """What an author may set. Both parts of the price None: free; a capacity of None: no limit."""

    title: str
    summary: str
    description: str
    language: str
    level: str
    category: str | None
    tags: list[str]
    price_amount: int | None
    price_currency: str | None
    capacity: int | None


Part = TypeVar("Part", Module, Lesson)


class NotYourCourse(Forbidden):
    """Only its teacher may change a course."""


_WRITE_OUTLINE: Final = text(f"update courses c set outline = ({OUTLINE})::text where c.id = :id")  # noqa: S608


async def create(session: AsyncSession, author: Principal, changes: CourseChanges) -> Course:
    """A new draft of the author's. `changes` has at least a title."""
    course = Course(
        id=new_id(),
        owner_id=author.user_id,
        summary="",
        description="",
        description_html="",
        language="en",
        level=Level.BEGINNER,
        tags=[],
        status=CourseStatus.DRAFT,
        version=0,
        created_at=clock.now(),
    )
    _apply(course, changes, await _rendered(changes))
    session.add(course)
    await changed(session, course)
    return course


async def update_course(
    session: AsyncSession, author: Principal, course_id: UUID, changes: CourseChanges, *, version: int | None = None
) -> Course:
    """Sets what `changes` names."""
    html = await _rendered(changes)
    course = await locked(session, author, course_id, version=version)
    if course.capacity is None and changes.get("capacity"):
        await seats.hold_for_open_orders(session, course_id)
    _apply(course, changes, html)
    await changed(session, course)
    return course


async def _rendered(changes: CourseChanges) -> str | None:
    return await render_aside(changes["description"]) if "description" in changes else None


def _apply(course: Course, changes: CourseChanges, html: str | None) -> None:
    for name, value in changes.items():
        setattr(course, name, value)
    if "price_amount" in changes or "price_currency" in changes:
        validate_price(course.price_amount, course.price_currency)
    if html is not None:
        course.description_html = html
    if course.published_at is None:
        # Once published, links to it are out in the world.
        course.slug = course_slug(course.title, course.id)


async def publish(session: AsyncSession, author: Principal, course_id: UUID, *, version: int | None = None) -> Course:
    """Offers the course to students; raises `CourseIncomplete` with every reason why not. Twice is once."""
    course = await locked(session, author, course_id, version=version)
    if course.status != CourseStatus.PUBLISHED:
        require_publishable(await _sketch(session, course))
        course.status = CourseStatus.PUBLISHED
        course.published_at = course.published_at or clock.now()
        await _advance(session, course)
        await outbox.emit(session, CoursePublished(course_id=course.id))
    return course


async def unpublish(session: AsyncSession, author: Principal, course_id: UUID, *, version: int | None = None) -> Course:
    """Takes the course off the catalogue; its students keep their access. Twice is once."""
    course = await locked(session, author, course_id, version=version)
    if course.status == CourseStatus.DRAFT:
        raise CourseNotPublished("The course has not been published yet.")
    if course.status == CourseStatus.PUBLISHED:
        course.status = CourseStatus.UNPUBLISHED
        await _advance(session, course)
        await outbox.emit(session, CourseUnpublished(course_id=course.id))
    return course


async def remove(
    session: AsyncSession, author: Principal, course_id: UUID, *, version: int | None = None
) -> list[UUID]:
    """Deletes a draft that never was published; the uploads whose bytes may be purged now."""
    course = await locked(session, author, course_id, version=version)
    if course.published_at is not None:
        raise CourseNotDeletable("A course that was published stays: unpublish it instead.")
    released = await uploads.release_lessons(session, Lesson.course_id == course.id)
    await session.execute(delete(Course).where(Course.id == course.id))
    return released


async def add_module(
    session: AsyncSession, author: Principal, course_id: UUID, title: str, *, version: int | None = None
) -> tuple[Course, Module]:
    """A new, empty module at the end."""
    course = await locked(session, author, course_id, version=version)
    count = await session.scalar(select(func.count()).select_from(Module).where(Module.course_id == course.id)) or 0
    if count >= MAX_MODULES:
        raise LimitReached(f"A course has at most {MAX_MODULES} modules.")
    module = Module(id=new_id(), course_id=course.id, title=title, position=count)
    session.add(module)
    await changed(session, course)
    return course, module


async def rename_module(
    session: AsyncSession, author: Principal, module_id: UUID, title: str, *, version: int | None = None
) -> tuple[Course, Module]:
    course, module = await locked_part(session, author, Module, module_id, version=version)
    module.title = title
    await changed(session, course)
    return course, module


async def remove_module(
    session: AsyncSession, author: Principal, module_id: UUID, *, version: int | None = None
) -> list[UUID]:
    """Deletes the module and its lessons; the uploads whose bytes may be purged now."""
    course, module = await locked_part(session, author, Module, module_id, version=version)
    released = await uploads.release_lessons(session, Lesson.module_id == module.id)
    await session.execute(delete(Module).where(Module.id == module.id))
    await session.execute(
        update(Module)
        .where(Module.course_id == course.id, Module.position > module.position)
        .values(position=Module.position - 1)
        .execution_options(synchronize_session=False)
    )
    await changed(session, course)
    return released


async def reorder(
    session: AsyncSession,
    author: Principal,
    course_id: UUID,
    order: Sequence[ModuleOrder],
    *,
    version: int | None = None,
) -> Course:
    """Puts every module and lesson at its place; raises `OrderMismatch` unless `order` names exactly all of them."""
    course = await locked(session, author, course_id, version=version)
    modules = (await session.scalars(select(Module.id).where(Module.course_id == course.id))).all()
    lessons = (await session.scalars(select(Lesson.id).where(Lesson.course_id == course.id))).all()
    check_order(order, set(modules), set(lessons))
    module_places = [{"id": module.id, "position": place} for place, module in enumerate(order)]
    lesson_places = [
        {"id": lesson, "module_id": module.id, "position": place}
        for module in order
        for place, lesson in enumerate(module.lessons)
    ]
    for entity, places in ((Module, module_places), (Lesson, lesson_places)):
        if places:
            await session.execute(update(entity), places)
    await changed(session, course)
    return course


async def locked(session: AsyncSession, author: Principal, course_id: UUID, *, version: int | None = None) -> Course:
    """The author's course, its row locked. Other people's is not found, or, when published, `NotYourCourse`.

    Raises `CourseChanged` when `version` is given and no longer the course's.
    """
    own = true() if author.can(Permission.COURSE_MANAGE) else Course.owner_id == author.user_id
    row = (
        await session.execute(
            select(Course, own)
            .where(Course.id == course_id, or_(own, Course.status == CourseStatus.PUBLISHED))
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is None:
        raise CourseNotFound("There is no such course.")
    course, is_own = row
    if not is_own:
        raise NotYourCourse("Only its teacher may change a course.")
    if version is not None and version != course.version:
        raise CourseChanged(f"The course is at version {course.version} by now. Read it again.")
    return course


async def locked_part(
    session: AsyncSession, author: Principal, kind: type[Part], part_id: UUID, *, version: int | None = None
) -> tuple[Course, Part]:
    """A module or lesson with its course, which is `locked`. `version` is the course's."""
    missing = (
        ModuleNotFound("There is no such module.") if kind is Module else LessonNotFound("There is no such lesson.")
    )
    course_id = await session.scalar(select(kind.course_id).where(kind.id == part_id))
    if course_id is None:
        raise missing
    try:
        course = await locked(session, author, course_id, version=version)
    except CourseNotFound:
        raise missing from None
    # Read under the lock: another change may have removed it while this one waited.
    part = await session.scalar(select(kind).where(kind.id == part_id))
    if part is None:
        raise missing
    return course, part


async def changed(session: AsyncSession, course: Course) -> None:
    """Ends every change; raises `CourseIncomplete` when a published course would not be complete any more."""
    await _advance(session, course)
    if course.status == CourseStatus.PUBLISHED:
        require_publishable(await _sketch(session, course))
        await outbox.emit(session, CourseUpdated(course_id=course.id))


async def _advance(session: AsyncSession, course: Course) -> None:
    course.version += 1
    course.updated_at = clock.now()
    await session.flush()
    await session.execute(_WRITE_OUTLINE, {"id": course.id})


async def _sketch(session: AsyncSession, course: Course) -> CourseSketch:
    has_content = or_(Lesson.body.op("~")(r"\S"), Lesson.video_upload_id.is_not(None))
    rows = await session.execute(
        select(Module.id, Module.title, Lesson.title, has_content)
        .outerjoin(Lesson, Lesson.module_id == Module.id)
        .where(Module.course_id == course.id)
        .order_by(Module.position, Lesson.position)
    )
    modules = []
    for (_, title), group in groupby(rows, key=lambda row: (row[0], row[1])):
        lessons = [LessonSketch(lesson, bool(content)) for _, _, lesson, content in group if lesson is not None]
        modules.append(ModuleSketch(title, lessons))
    return CourseSketch(
        published=course.status == CourseStatus.PUBLISHED,
        summary=course.summary,
        description=course.description,
        category=course.category,
        price_amount=course.price_amount,
        price_currency=course.price_currency,
        modules=modules,
    )
