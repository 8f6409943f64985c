"""Puts the demo's courses into the catalogue through the API, as their teachers would. Doing it twice does it once."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.demo.catalogue import Course, Teacher, load_courses, load_teachers
from deploy.demo.stage import Person, Stage


@dataclass(frozen=True, slots=True)
class Seeded:
    """The catalogue as it stands. Keys are the slugs of the content on disk."""

    teachers: Mapping[str, Person]
    courses: Mapping[str, Course]
    ids: Mapping[str, str]
    written: int
    """How many courses this run had to write."""


async def seed(stage: Stage, *, drafts: Collection[str] = ()) -> Seeded:
    """Every teacher and course is there afterwards; all but `drafts` are published. Teachers work side by side."""
    courses = {course.slug: course for course in load_courses()}
    teachers = load_teachers()
    shelves = await asyncio.gather(
        *(
            _fill(stage, teacher, [course for course in courses.values() if course.teacher == teacher.slug], drafts)
            for teacher in teachers.values()
        )
    )
    return Seeded(
        teachers=dict(zip(teachers, (shelf.teacher for shelf in shelves), strict=True)),
        courses=courses,
        ids={slug: id for shelf in shelves for slug, id in shelf.ids.items()},
        written=sum(shelf.written for shelf in shelves),
    )


@dataclass(frozen=True, slots=True)
class _Shelf:
    teacher: Person
    ids: Mapping[str, str]
    written: int


async def _fill(stage: Stage, teacher: Teacher, courses: Sequence[Course], drafts: Collection[str]) -> _Shelf:
    person = await _teacher(stage, teacher)
    taught = await _taught(person)
    ids: dict[str, str] = {}
    written = 0
    for course in courses:
        known = taught.get(course.title)
        if known is None or known["status"] == "draft":  # a draft may be half of what an interrupted run wrote
            if known:
                await person.delete(f"/courses/{known['id']}")
            known = await write(person, course)
            written += 1
        ids[course.slug] = known["id"]
        if course.slug not in drafts and known["status"] != "published":
            await person.post(f"/courses/{known['id']}/publish")
    return _Shelf(person, ids, written)


async def write(teacher: Person, course: Course) -> dict[str, Any]:
    """Writes a course, module by module and lesson by lesson, and leaves it a draft."""
    draft: dict[str, Any] = await teacher.post("/courses", course.fields, expect=201)
    for module in course.modules:
        created = await teacher.post(f"/courses/{draft['id']}/modules", {"title": module.title}, expect=201)
        for lesson in module.lessons:
            await teacher.post(
                f"/modules/{created['id']}/lessons", {"title": lesson.title, "body": lesson.body}, expect=201
            )
    return draft


async def _teacher(stage: Stage, teacher: Teacher) -> Person:
    account = {"email": teacher.email, "password": stage.password}
    answer = await stage.http.post(f"{stage.api}/v1/auth/login", json=account)
    if answer.is_success:
        person = Person(stage, teacher.name, teacher.email, answer.json()["access_token"])
    else:
        person = await Person.arrive(stage, teacher.name, teacher.email)
    await person.post("/me/teacher")
    return person


async def _taught(teacher: Person) -> dict[str, dict[str, Any]]:
    page = await teacher.get("/me/courses", params={"limit": 100})
    return {course["title"]: course for course in page["items"]}
