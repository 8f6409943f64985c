"""Lessons: read by students, changed by their teacher."""

from typing import Annotated, Any, cast
from uuid import UUID

import orjson
from fastapi import APIRouter, BackgroundTasks, Response

from api.container import AppContainer
from api.deps import Container, Tx, requires
from api.etags import Expected, etag
from api.routers.courses import Author
from api.schemas.lessons import LessonRead, LessonUpdate
from core.integrations.s3 import ObjectStorage
from domain.identity import Permission, Principal
from domain.uploads import content_disposition, object_key
from services import course_reads, lessons, uploads
from services.lessons import LessonChanges

router = APIRouter(prefix="/lessons", tags=["lessons"])

Student = Annotated[Principal, requires(Permission.COURSE_STUDY)]


@router.get("/{lesson_id}", response_model=LessonRead)
async def read_lesson(lesson_id: UUID, container: Container, reader: Student) -> Response:
    """A lesson with links to its files, for students of its course and its teacher."""
    return await lesson_response(container, reader, lesson_id)


@router.patch("/{lesson_id}", response_model=LessonRead)
async def update_lesson(
    lesson_id: UUID,
    body: LessonUpdate,
    container: Container,
    author: Author,
    version: Expected,
    background: BackgroundTasks,
) -> Response:
    """Changes what is given. A published course must stay complete; files no longer used are removed."""
    changes = cast(LessonChanges, body.model_dump(exclude_unset=True))
    async with container.db.transaction() as session:
        released = await lessons.edit(session, author, lesson_id, changes, version=version)
    background.add_task(uploads.purge, container.db, container.s3, released)
    return await lesson_response(container, author, lesson_id)


@router.delete("/{lesson_id}", status_code=204)
async def delete_lesson(
    lesson_id: UUID,
    container: Container,
    session: Tx,
    author: Author,
    version: Expected,
    background: BackgroundTasks,
) -> None:
    """Deletes the lesson and its files. A published course must stay complete."""
    released = await lessons.remove(session, author, lesson_id, version=version)
    background.add_task(uploads.purge, container.db, container.s3, released)


async def lesson_response(
    container: AppContainer, reader: Principal, lesson_id: UUID, *, status: int = 200
) -> Response:
    """The lesson as JSON: PostgreSQL built most of it in the shape of `LessonRead`; a test holds it to that."""
    lesson = await course_reads.lesson(container.db, reader, lesson_id)
    video: dict[str, Any] | None = None
    attachments: list[dict[str, Any]] = []
    for file in orjson.loads(lesson.files) if lesson.files else ():
        if file.pop("video"):
            video = await _linked(container.s3, file, inline=True)
        else:
            attachments.append(await _linked(container.s3, file, inline=False))
    files = orjson.dumps({"video": video, "attachments": attachments})
    # Two objects become one: the end of the first and the start of the second meet in a comma.
    content = lesson.json.encode()[:-1] + b"," + files[1:]
    headers = {"ETag": etag(lesson.version)}
    return Response(content, status_code=status, media_type="application/json", headers=headers)


async def _linked(s3: ObjectStorage, file: dict[str, Any], *, inline: bool) -> dict[str, Any]:
    link = await s3.link(
        object_key(file["id"]),
        content_type=file["content_type"],
        disposition=content_disposition(file["filename"], inline=inline),
    )
    return {**file, "url": link.url, "expires_at": link.expires_at}
