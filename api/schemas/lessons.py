"""Lessons and their files."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from api.schemas.base import Id, RequestModel, ResponseModel
from api.schemas.courses import Markdown, Title
from domain.courses import BODY_LENGTH, MAX_ATTACHMENTS


def _once_each(ids: list[UUID]) -> list[UUID]:
    if len(set(ids)) != len(ids):
        raise ValueError("an upload is named more than once")
    return ids


class LessonUpdate(RequestModel):
    """What is left out stays as it is."""

    title: Title = Field(default_factory=str)
    body: Markdown = Field(default_factory=str, max_length=BODY_LENGTH, description="Markdown.")
    video_upload_id: Id | None = Field(default=None, description="A completed upload with the purpose `video`.")
    attachment_ids: Annotated[list[Id], AfterValidator(_once_each)] = Field(
        default_factory=list,
        max_length=MAX_ATTACHMENTS,
        description="All attachments in order: completed uploads with the purpose `attachment`.",
    )


class LessonCreate(LessonUpdate):
    title: Title


class FileRead(ResponseModel):
    id: UUID
    filename: str
    content_type: str
    size: int = Field(description="Bytes.")
    url: str = Field(description="Works without credentials until `expires_at`.")
    expires_at: AwareDatetime


class LessonRead(ResponseModel):
    id: UUID
    course_id: UUID
    module_id: UUID
    title: str
    position: int
    body: str = Field(description="Markdown.")
    body_html: str = Field(description="The body, rendered; safe to show.")
    created_at: AwareDatetime
    updated_at: AwareDatetime
    video: FileRead | None
    attachments: list[FileRead]
