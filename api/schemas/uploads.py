"""Uploads straight to S3."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from api.schemas.base import Lenient, RequestModel, ResponseModel
from domain.uploads import MAX_PARTS, UploadPurpose, UploadStatus


class UploadCreate(RequestModel):
    """What will be uploaded; it is checked when it has arrived."""

    filename: str = Field(max_length=200, examples=["slides.pdf"])
    content_type: str = Field(max_length=100, examples=["application/pdf"])
    size: int = Field(description="Bytes.")
    sha256: Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9A-Fa-f]{64}$")] = Field(
        description="Hex digest of the whole file."
    )
    purpose: Annotated[UploadPurpose, Lenient]


class UploadPartRead(ResponseModel):
    """PUT exactly `size` bytes of the file, in order, to `url`, and keep the ETag that S3 answers."""

    number: int
    size: int
    url: str
    expires_at: AwareDatetime


class UploadRead(ResponseModel):
    id: UUID
    filename: str
    content_type: str
    size: int
    sha256: str
    purpose: UploadPurpose
    status: UploadStatus
    created_at: AwareDatetime
    parts: list[UploadPartRead] = Field(description="Where to put the parts; empty once they have been put together.")


class UploadedPart(RequestModel):
    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(min_length=1, max_length=100)


class UploadComplete(RequestModel):
    parts: list[UploadedPart] = Field(min_length=1, max_length=MAX_PARTS)
