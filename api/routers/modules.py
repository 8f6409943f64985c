"""Modules of a course, and adding lessons to them."""

from typing import cast
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Response

from api.deps import Container, Tx
from api.etags import Expected, etag
from api.routers.courses import Author
from api.routers.lessons import lesson_response
from api.schemas.courses import ModuleRead, ModuleWrite
from api.schemas.lessons import LessonCreate, LessonRead
from services import courses, lessons, uploads
from services.lessons import LessonChanges

router = APIRouter(prefix="/modules", tags=["courses"])


@router.post("/{module_id}/lessons", status_code=201, response_model=LessonRead)
async def create_lesson(
    module_id: UUID, body: LessonCreate, container: Container, author: Author, version: Expected
) -> Response:
    """Adds a lesson at the end of the module."""
    changes = cast(LessonChanges, body.model_dump(exclude_unset=True))
    async with container.db.transaction() as session:
        lesson = await lessons.add(session, author, module_id, changes, version=version)
    response = await lesson_response(container, author, lesson.id, status=201)
    response.headers["Location"] = f"/v1/lessons/{lesson.id}"
    return response


@router.patch("/{module_id}")
async def update_module(
    module_id: UUID, body: ModuleWrite, response: Response, session: Tx, author: Author, version: Expected
) -> ModuleRead:
    """Renames the module."""
    course, module = await courses.rename_module(session, author, module_id, body.title, version=version)
    response.headers["ETag"] = etag(course.version)
    return ModuleRead.model_validate(module)


@router.delete("/{module_id}", status_code=204)
async def delete_module(
    module_id: UUID,
    container: Container,
    session: Tx,
    author: Author,
    version: Expected,
    background: BackgroundTasks,
) -> None:
    """Deletes the module with its lessons and their files. A published course must stay complete."""
    released = await courses.remove_module(session, author, module_id, version=version)
    background.add_task(uploads.purge, container.db, container.s3, released)
