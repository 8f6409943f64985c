import asyncio
import random
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, text

from core import clock
from core.db import Database
from core.ids import new_id
from core.integrations.s3 import S3Storage
from core.settings import Settings
from domain.courses import CourseIncomplete, ModuleOrder
from domain.errors import DomainError, Invalid
from domain.identity import Principal, Role
from domain.uploads import UploadPurpose, UploadStatus
from models.identity import User
from models.upload import Upload
from services import course_reads, courses, lessons, uploads
from services.courses import CourseChanges

COMPLETE = CourseChanges(title="Bread", summary="Bake.", description="Flour.", category="cooking")


@pytest.fixture
async def author(db: Database) -> Principal:
    user_id = new_id()
    async with db.transaction() as session:
        await session.execute(
            insert(User).values(id=user_id, email=f"{user_id.hex}@example.com", name="Ada", password_hash="unusable")
        )
    return Principal.of(user_id, new_id(), [Role.TEACHER])


async def a_course(db: Database, author: Principal, lesson_count: int = 1) -> tuple[UUID, UUID, list[UUID]]:
    """A complete draft of one module: the ids of course, module and lessons."""
    async with db.transaction() as session:
        course = await courses.create(session, author, COMPLETE)
        course, module = await courses.add_module(session, author, course.id, "Flour")
        made = [
            await lessons.add(session, author, module.id, {"title": f"Lesson {n}", "body": "Mill."})
            for n in range(lesson_count)
        ]
        return course.id, module.id, [lesson.id for lesson in made]


async def an_upload(db: Database, owner: Principal) -> UUID:
    """A completed upload nobody uses; nothing is stored for it."""
    async with db.transaction() as session:
        upload = Upload(
            id=new_id(),
            owner_id=owner.user_id,
            purpose=UploadPurpose.ATTACHMENT,
            filename="a.txt",
            content_type="text/plain",
            size=1,
            sha256="0" * 64,
            status=UploadStatus.COMPLETED,
            expires_at=clock.now(),
        )
        session.add(upload)
        return upload.id


async def scalar(db: Database, statement: str, **parameters: Any) -> Any:
    async with db.read() as session:
        return await session.scalar(text(statement), parameters)


async def test_changes_of_one_course_take_turns(db: Database, author: Principal) -> None:
    course_id, module_id, _ = await a_course(db, author, lesson_count=0)
    version = await scalar(db, "select version from courses where id = :id", id=course_id)

    async def add(number: int) -> None:
        async with db.transaction() as session:
            await lessons.add(session, author, module_id, {"title": f"Lesson {number}"})

    await asyncio.gather(*(add(number) for number in range(12)))
    positions = await scalar(
        db, "select array_agg(position order by position) from lessons where module_id = :id", id=module_id
    )
    assert positions == list(range(12))
    assert await scalar(db, "select version from courses where id = :id", id=course_id) == version + 12


async def test_a_course_is_never_published_without_lessons(db: Database, author: Principal) -> None:
    """Publishing and deleting the last lesson at the same time: one of them is refused."""
    for _ in range(10):
        course_id, _, [lesson_id] = await a_course(db, author)

        async def publish(course_id: UUID = course_id) -> None:
            async with db.transaction() as session:
                await courses.publish(session, author, course_id)

        async def empty(lesson_id: UUID = lesson_id) -> None:
            async with db.transaction() as session:
                await lessons.remove(session, author, lesson_id)

        outcomes = await asyncio.gather(publish(), empty(), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [CourseIncomplete]


async def test_whatever_is_done_the_outline_and_the_positions_stay_right(db: Database, author: Principal) -> None:
    course_id, _, _ = await a_course(db, author, lesson_count=3)
    chance = random.Random(7)
    for _ in range(60):
        with suppress(CourseIncomplete):
            async with db.transaction() as session:
                await _anything(session, author, course_id, chance)
        kept = (await course_reads.outline(db, author, course_id)).json
        rebuilt = await scalar(
            db,
            f"select ({course_reads.OUTLINE})::text from courses c where c.id = :id",  # noqa: S608
            id=course_id,
        )
        assert kept == rebuilt
        gaps = """
            select count(*) from (
              select position, row_number() over (order by position) - 1 as place from modules where course_id = :id
              union all
              select position, row_number() over (partition by module_id order by position) - 1
              from lessons where course_id = :id) places
            where position <> place
        """
        assert await scalar(db, gaps, id=course_id) == 0


async def _anything(session: Any, author: Principal, course_id: UUID, chance: random.Random) -> None:
    rows = await session.execute(
        text("select m.id, l.id from modules m left join lessons l on l.module_id = m.id where m.course_id = :id"),
        {"id": course_id},
    )
    layout: dict[UUID, list[UUID]] = {}
    for module_id, lesson_id in rows:
        layout.setdefault(module_id, []).extend([lesson_id] if lesson_id else [])
    modules, taught = list(layout), [lesson for in_module in layout.values() for lesson in in_module]
    match chance.choice(["module", "lesson", "lesson", "rename", "order", "order", "drop", "drop module", "publish"]):
        case "module":
            await courses.add_module(session, author, course_id, "New")
        case "lesson" if modules:
            await lessons.add(session, author, chance.choice(modules), {"title": "New", "body": "Text."})
        case "rename" if taught:
            await lessons.edit(session, author, chance.choice(taught), {"title": "Renamed", "body": "Anew."})
        case "drop" if taught:
            await lessons.remove(session, author, chance.choice(taught))
        case "drop module" if modules:
            await courses.remove_module(session, author, chance.choice(modules))
        case "publish":
            act = courses.publish if chance.random() < 0.5 else courses.unpublish
            with suppress(DomainError):
                await act(session, author, course_id)
        case "order" if modules:
            chance.shuffle(modules)
            chance.shuffle(taught)
            cuts = sorted(chance.choices(range(len(taught) + 1), k=len(modules) - 1))
            parts = [taught[a:b] for a, b in zip([0, *cuts], [*cuts, len(taught)], strict=True)]
            order = [ModuleOrder(module, part) for module, part in zip(modules, parts, strict=True)]
            await courses.reorder(session, author, course_id, order)


async def test_two_lessons_cannot_take_the_same_upload(db: Database, author: Principal) -> None:
    _, module_id, _ = await a_course(db, author)
    other_course = await a_course(db, author)
    upload_id = await an_upload(db, author)

    async def attach(module: UUID) -> None:
        async with db.transaction() as session:
            await lessons.add(session, author, module, {"title": "x", "attachment_ids": [upload_id]})

    outcomes = await asyncio.gather(attach(module_id), attach(other_course[1]), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Invalid]


async def test_the_sweeper_never_takes_what_a_lesson_takes(db: Database, author: Principal, settings: Settings) -> None:
    s3 = S3Storage(settings.s3)
    await s3.ensure_bucket()
    _, module_id, _ = await a_course(db, author)
    for _ in range(8):
        upload_id = await an_upload(db, author)

        async def attach(upload_id: UUID = upload_id) -> bool:
            with suppress(Invalid):
                async with db.transaction() as session:
                    await lessons.add(session, author, module_id, {"title": "x", "attachment_ids": [upload_id]})
                return True
            return False

        attached, _ = await asyncio.gather(attach(), uploads.purge_abandoned(db, s3, clock.now()))
        status = await scalar(db, "select status from uploads where id = :id", id=upload_id)
        assert status == (UploadStatus.COMPLETED if attached else None)
