"""Courses: authoring, publishing, and the outline anybody may read."""

from typing import Annotated, cast
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Header, Response

from api.deps import Container, ReadTx, Tx, optional_principal, public, requires
from api.etags import Expected, etag, is_current
from api.pagination import Page, Paging, cut_page
from api.schemas.courses import (
    CourseCreate,
    CourseOrderWrite,
    CourseRead,
    CourseUpdate,
    ModuleRead,
    ModuleWrite,
    OutlineRead,
    TeacherRead,
)
from domain.courses import ModuleOrder
from domain.identity import Permission, Principal
from models.course import Course
from services import course_reads, courses, uploads
from services.courses import CourseChanges

router = APIRouter(prefix="/courses", tags=["courses"])
my_router = APIRouter(prefix="/me", tags=["courses"])

Author = Annotated[Principal, requires(Permission.COURSE_AUTHOR)]
Reader = Annotated[Principal | None, optional_principal]
IfNoneMatch = Annotated[str | None, Header(description="The ETag at hand.", max_length=64)]


@router.post("", status_code=201)
async def create_course(body: CourseCreate, response: Response, session: Tx, author: Author) -> CourseRead:
    """Starts a draft."""
    course = await courses.create(session, author, _changes(body))
    response.headers["Location"] = f"/v1/courses/{course.id}"
    return await _answer(response, session, author, course.id)


@router.get("/{course_id}", dependencies=[public])
async def read_course(course_id: UUID, response: Response, session: ReadTx, reader: Reader) -> CourseRead:
    """A published course; drafts only for their teacher."""
    return await _answer(response, session, reader, course_id)


@router.patch("/{course_id}")
async def update_course(
    course_id: UUID,
    body: CourseUpdate,
    response: Response,
    session: Tx,
    author: Author,
    version: Expected,
) -> CourseRead:
    """Changes what is given. A published course must stay complete."""
    await courses.update_course(session, author, course_id, _changes(body), version=version)
    return await _answer(response, session, author, course_id)


@router.delete("/{course_id}", status_code=204)
async def delete_course(
    course_id: UUID,
    container: Container,
    session: Tx,
    author: Author,
    version: Expected,
    background: BackgroundTasks,
) -> None:
    """Deletes a draft that never was published, with its files."""
    released = await courses.remove(session, author, course_id, version=version)
    background.add_task(uploads.purge, container.db, container.s3, released)


@router.post("/{course_id}/modules", status_code=201)
async def create_module(
    course_id: UUID, body: ModuleWrite, response: Response, session: Tx, author: Author, version: Expected
) -> ModuleRead:
    """Adds a module at the end. It shows in the outline of a published course before it has a lesson."""
    course, module = await courses.add_module(session, author, course_id, body.title, version=version)
    response.headers["ETag"] = etag(course.version)
    return ModuleRead.model_validate(module)


@router.put("/{course_id}/order")
async def order_course(
    course_id: UUID,
    body: CourseOrderWrite,
    response: Response,
    container: Container,
    author: Author,
    version: Expected,
) -> OutlineRead:
    """Puts all modules and lessons in order at once; lessons may change their module."""
    order = [ModuleOrder(module.id, module.lessons) for module in body.modules]
    async with container.db.transaction() as session:
        await courses.reorder(session, author, course_id, order, version=version)
    outline = await course_reads.outline(container.db, author, course_id)
    response.headers["ETag"] = etag(outline.version)
    return OutlineRead.model_validate_json(outline.json)


@router.post("/{course_id}/publish")
async def publish_course(
    course_id: UUID, response: Response, session: Tx, author: Author, version: Expected
) -> CourseRead:
    """Offers the course to students; refused with every reason while it is not complete."""
    await courses.publish(session, author, course_id, version=version)
    return await _answer(response, session, author, course_id)


@router.post("/{course_id}/unpublish")
async def unpublish_course(
    course_id: UUID, response: Response, session: Tx, author: Author, version: Expected
) -> CourseRead:
    """Takes the course off the catalogue. Its students keep their access."""
    await courses.unpublish(session, author, course_id, version=version)
    return await _answer(response, session, author, course_id)


@router.get(
    "/{course_id}/outline",
    response_model=OutlineRead,
    responses={304: {"description": "The outline at hand is current"}},
    dependencies=[public],
)
async def read_outline(
    course_id: UUID, container: Container, reader: Reader, if_none_match: IfNoneMatch = None
) -> Response:
    """Modules and lessons by title: of a published course for everybody."""
    outline = await course_reads.outline(container.db, reader, course_id)
    headers = {"ETag": etag(outline.version), "Cache-Control": "private, no-cache"}
    if is_current(if_none_match, outline.version):
        return Response(status_code=304, headers=headers)
    # PostgreSQL built this text in the shape of OutlineRead; a test holds it to that.
    return Response(outline.json, media_type="application/json", headers=headers)


@my_router.get("/courses")
async def my_courses(session: ReadTx, author: Author, paging: Paging) -> Page[CourseRead]:
    """The courses I teach, newest first."""
    rows = await course_reads.taught(session, author.user_id, after=paging.after(UUID), limit=paging.limit)
    shown, cursor = cut_page(rows, paging.limit, lambda row: (row[0].id,))
    return Page(items=[_read(course, teacher) for course, teacher in shown], next_cursor=cursor)


def _changes(body: CourseUpdate) -> CourseChanges:
    given = body.model_dump(exclude_unset=True, exclude={"price"})
    if "price" in body.model_fields_set:
        given["price_amount"] = body.price.amount if body.price else None
        given["price_currency"] = body.price.currency if body.price else None
    return cast(CourseChanges, given)


async def _answer(response: Response, session: Tx, reader: Principal | None, course_id: UUID) -> CourseRead:
    course, teacher = await course_reads.course(session, reader, course_id)
    response.headers["ETag"] = etag(course.version)
    return _read(course, teacher)


def _read(course: Course, teacher: str) -> CourseRead:
    free = course.price_amount is None
    return CourseRead.of(
        course,
        teacher=TeacherRead(id=course.owner_id, name=teacher),
        price=None if free else {"amount": course.price_amount, "currency": course.price_currency},
    )
