"""Uploads: the bytes go straight to S3, in parts, by signed links."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Response

from api.deps import Container, ReadTx, Tx, requires
from api.schemas.uploads import UploadComplete, UploadCreate, UploadPartRead, UploadRead
from core.integrations.s3 import Part, SignedLink
from domain.identity import Permission, Principal
from domain.uploads import UploadStatus, part_sizes
from models.upload import Upload
from services import uploads

router = APIRouter(prefix="/uploads", tags=["uploads"])

Uploader = Annotated[Principal, requires(Permission.UPLOAD_CREATE)]


@router.post("", status_code=201)
async def create_upload(body: UploadCreate, response: Response, container: Container, owner: Uploader) -> UploadRead:
    """Begins an upload: PUT each part to its link, then complete."""
    declared = uploads.Declaration(**body.model_dump())
    upload, links = await uploads.begin(
        container.db, container.s3, owner, declared, max_size=container.settings.platform.max_upload
    )
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return _read(upload, links)


@router.get("/{upload_id}")
async def read_upload(upload_id: UUID, container: Container, session: ReadTx, owner: Uploader) -> UploadRead:
    """An upload of mine, with fresh links while parts are missing."""
    upload = await uploads.own(session, owner, upload_id)
    return _read(upload, await uploads.links(container.s3, upload))


@router.post(
    "/{upload_id}/complete",
    responses={202: {"model": UploadRead, "description": "A large file is still being checked: ask again"}},
)
async def complete_upload(
    upload_id: UUID, body: UploadComplete, response: Response, container: Container, owner: Uploader
) -> UploadRead:
    """Puts the parts together and checks type, size and SHA-256. A file that is not what was declared is removed."""
    parts = [Part(part.number, part.etag) for part in body.parts]
    upload = await uploads.complete(container.db, container.s3, owner, upload_id, parts)
    if upload.status == UploadStatus.VERIFYING:
        response.status_code = 202
        response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return _read(upload, [])


@router.delete("/{upload_id}", status_code=204)
async def delete_upload(
    upload_id: UUID, container: Container, session: Tx, owner: Uploader, background: BackgroundTasks
) -> None:
    """Gives up an upload that no lesson uses."""
    released = await uploads.abandon(session, owner, upload_id)
    background.add_task(uploads.purge, container.db, container.s3, [released])


def _read(upload: Upload, links: list[SignedLink]) -> UploadRead:
    sizes = part_sizes(upload.size)
    parts = [
        UploadPartRead(number=number, size=sizes[number - 1], url=link.url, expires_at=link.expires_at)
        for number, link in enumerate(links, start=1)
    ]
    return UploadRead.of(upload, parts=parts)
