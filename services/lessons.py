"""Authoring lessons: text, video, attachments. Rules and locks are those of `services/courses.py`."""

from collections.abc import Sequence
from typing import TypedDict
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core import clock
from core.ids import new_id
from domain.courses import MAX_LESSONS, LimitReached
from domain.identity import Principal
from domain.uploads import UploadPurpose
from models.course import Lesson, LessonAttachment, Module
from services import uploads
from services.courses import changed, locked_part
from services.markdown import render_aside


class LessonChanges(TypedDict, total=False):
    """What an author may set. `attachment_ids` are all of the lesson's attachments, in order."""

    title: str
    body: str
    video_upload_id: UUID | None
    attachment_ids: Sequence[UUID]


async def add(
    session: AsyncSession, author: Principal, module_id: UUID, changes: LessonChanges, *, version: int | None = None
) -> Lesson:
    """A new lesson at the end of the module. `changes` has at least a title."""
    html = await _rendered(changes)
    course, module = await locked_part(session, author, Module, module_id, version=version)
    in_course = select(func.count()).select_from(Lesson).where(Lesson.course_id == course.id)
    if (await session.scalar(in_course) or 0) >= MAX_LESSONS:
        raise LimitReached(f"A course has at most {MAX_LESSONS} lessons.")
    position = await session.scalar(in_course.where(Lesson.module_id == module.id)) or 0
    lesson = Lesson(
        id=new_id(),
        module_id=module.id,
        course_id=course.id,
        title=changes["title"],
        body=changes.get("body", ""),
        body_html=html or "",
        position=position,
    )
    session.add(lesson)
    await session.flush()
    await _set_files(session, {author.user_id, course.owner_id}, lesson, changes)
    await changed(session, course)
    return lesson


async def edit(
    session: AsyncSession, author: Principal, lesson_id: UUID, changes: LessonChanges, *, version: int | None = None
) -> list[UUID]:
    """Sets what `changes` names; the uploads whose bytes may be purged now."""
    html = await _rendered(changes)
    course, lesson = await locked_part(session, author, Lesson, lesson_id, version=version)
    lesson.title = changes.get("title", lesson.title)
    if html is not None:
        lesson.body, lesson.body_html = changes["body"], html
    lesson.updated_at = clock.now()
    released = await _set_files(session, {author.user_id, course.owner_id}, lesson, changes)
    await changed(session, course)
    return released


async def remove(
    session: AsyncSession, author: Principal, lesson_id: UUID, *, version: int | None = None
) -> list[UUID]:
    """Deletes the lesson; the uploads whose bytes may be purged now."""
    course, lesson = await locked_part(session, author, Lesson, lesson_id, version=version)
    released = await uploads.release_lessons(session, Lesson.id == lesson.id)
    await session.execute(delete(Lesson).where(Lesson.id == lesson.id))
    await session.execute(
        update(Lesson)
        .where(Lesson.module_id == lesson.module_id, Lesson.position > lesson.position)
        .values(position=Lesson.position - 1)
        .execution_options(synchronize_session=False)
    )
    await changed(session, course)
    return released


async def _rendered(changes: LessonChanges) -> str | None:
    return await render_aside(changes["body"]) if "body" in changes else None


async def _set_files(session: AsyncSession, owners: set[UUID], lesson: Lesson, changes: LessonChanges) -> list[UUID]:
    """Takes new uploads into use, lets go of those no longer named and returns them."""
    released: list[UUID] = []
    if "video_upload_id" in changes and changes["video_upload_id"] != lesson.video_upload_id:
        released += [lesson.video_upload_id] if lesson.video_upload_id else []
        wanted = {"video_upload_id": changes["video_upload_id"]} if changes["video_upload_id"] else {}
        await uploads.take_into_use(session, owners, UploadPurpose.VIDEO, wanted)
        lesson.video_upload_id = changes["video_upload_id"]
    if "attachment_ids" in changes:
        wanted_ids = changes["attachment_ids"]
        attached = LessonAttachment.lesson_id == lesson.id
        current = set(await session.scalars(select(LessonAttachment.upload_id).where(attached)))
        added = {f"attachment_ids.{n}": id_ for n, id_ in enumerate(wanted_ids) if id_ not in current}
        await uploads.take_into_use(session, owners, UploadPurpose.ATTACHMENT, added)
        await session.execute(delete(LessonAttachment).where(attached))
        if wanted_ids:
            rows = [{"upload_id": id_, "lesson_id": lesson.id, "position": n} for n, id_ in enumerate(wanted_ids)]
            await session.execute(insert(LessonAttachment), rows)
        released += current.difference(wanted_ids)
    await session.flush()
    await uploads.release(session, released)
    return released
