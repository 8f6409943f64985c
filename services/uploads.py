"""Uploads: begun here, stored by the browser straight at S3, checked here, used by lessons, removed here.

S3 is never called within a transaction. So a row is written before bytes can exist and outlives them: whatever is
interrupted, `purge_abandoned` finds what is left.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core import clock, logs
from core.db import Database
from core.ids import new_id
from core.integrations.s3 import ObjectMissing, ObjectStorage, Part, PartsRefused, SignedLink
from domain.contracts.events import UploadCompleted
from domain.errors import DomainError, FieldError, Invalid, ServiceUnavailable
from domain.identity import Permission, Principal
from domain.uploads import (
    MAGIC_LENGTH,
    MAX_OPEN_UPLOADS,
    ORPHAN_AGE,
    VERDICT_AGE,
    TooManyUploads,
    UploadInUse,
    UploadNotFound,
    UploadPartsInvalid,
    UploadPurpose,
    UploadRejected,
    UploadStatus,
    check_declaration,
    check_parts,
    check_stored,
    object_key,
    part_sizes,
    rejected,
)
from models.course import Lesson, LessonAttachment
from models.upload import Upload
from services import outbox

_PATIENCE: Final = 20.0
"""Seconds a request waits for a check; a large file takes longer, and the client asks again."""
_BATCH: Final = 100

log = logs.get_logger(__name__)
_checks: dict[UUID, asyncio.Task[None]] = {}
"""The checks this process is at, so that asking again joins the one that runs."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a client says it will upload. `size` is bytes, `sha256` hex."""

    filename: str
    content_type: str
    size: int
    sha256: str
    purpose: UploadPurpose


async def begin(
    db: Database, s3: ObjectStorage, owner: Principal, declared: Declaration, *, max_size: int
) -> tuple[Upload, list[SignedLink]]:
    """A new upload and a link for each of its parts; raises `Invalid` for a file that may not be uploaded."""
    check_declaration(declared.filename, declared.content_type, declared.size, declared.purpose, max_size=max_size)
    now = clock.now()
    upload = Upload(
        id=new_id(),
        owner_id=owner.user_id,
        **asdict(declared),
        status=UploadStatus.PENDING,
        expires_at=now + VERDICT_AGE,
        created_at=now,
    )
    async with db.transaction() as session:
        unused = select(func.count()).where(Upload.owner_id == owner.user_id, Upload.expires_at.is_not(None))
        if (await session.scalar(unused) or 0) >= MAX_OPEN_UPLOADS:
            raise TooManyUploads(f"{MAX_OPEN_UPLOADS} uploads are not attached to a lesson yet: use or delete some.")
        session.add(upload)
    multipart_id = await s3.start_multipart(object_key(upload.id), upload.content_type)
    async with db.transaction() as session:
        await session.execute(update(Upload).where(Upload.id == upload.id).values(multipart_id=multipart_id))
    upload.multipart_id = multipart_id
    return upload, await links(s3, upload)


async def links(s3: ObjectStorage, upload: Upload) -> list[SignedLink]:
    """Fresh links for the parts of an upload that is pending; none afterwards."""
    if upload.status != UploadStatus.PENDING or upload.multipart_id is None:
        return []
    return await s3.part_links(object_key(upload.id), upload.multipart_id, part_sizes(upload.size))


async def own(session: AsyncSession, caller: Principal, upload_id: UUID, *, lock: bool = False) -> Upload:
    """The caller's upload (anyone's for who manages courses); raises `UploadNotFound`."""
    query = select(Upload).where(Upload.id == upload_id, Upload.status != UploadStatus.DELETING)
    if not caller.can(Permission.COURSE_MANAGE):
        query = query.where(Upload.owner_id == caller.user_id)
    upload = await session.scalar(query.with_for_update() if lock else query)
    if upload is None:
        raise UploadNotFound("There is no such upload.")
    return upload


async def complete(
    db: Database, s3: ObjectStorage, caller: Principal, upload_id: UUID, parts: Sequence[Part]
) -> Upload:
    """Puts the parts together and checks what arrived; again is fine at any time.

    The answer's status is completed, or verifying while a large file is still being read. Raises `UploadRejected`
    when the content is not what was declared (it is removed then), `UploadPartsInvalid` when the parts do not fit.
    """
    async with db.read() as session:
        upload = await own(session, caller, upload_id)
    if upload.status == UploadStatus.PENDING:
        await _assemble(db, s3, upload, parts)
    if upload.status in (UploadStatus.PENDING, UploadStatus.VERIFYING):
        await _join_check(db, s3, upload_id)
        async with db.read() as session:
            upload = await own(session, caller, upload_id)
    if upload.rejection is not None:
        raise rejected(**upload.rejection)
    return upload


async def _assemble(db: Database, s3: ObjectStorage, upload: Upload, parts: Sequence[Part]) -> None:
    check_parts([part.number for part in parts], len(part_sizes(upload.size)))
    try:
        if upload.multipart_id is None:
            raise ObjectMissing(object_key(upload.id))
        await s3.finish_multipart(
            object_key(upload.id), upload.multipart_id, sorted(parts, key=lambda part: part.number)
        )
    except (PartsRefused, ObjectMissing) as refusal:
        # An earlier call may have come this far and died before it could say so.
        if not await _is_stored(s3, upload):
            message = "The storage has no such parts, or with other ETags."
            raise UploadPartsInvalid(message, errors=[FieldError("parts", message, "parts_unknown")]) from refusal
    async with db.transaction() as session:
        await session.execute(
            update(Upload)
            .where(Upload.id == upload.id, Upload.status == UploadStatus.PENDING)
            .values(status=UploadStatus.VERIFYING, expires_at=clock.now() + VERDICT_AGE)
        )


async def _is_stored(s3: ObjectStorage, upload: Upload) -> bool:
    try:
        await s3.size(object_key(upload.id))
    except ObjectMissing:
        return False
    return True


async def _join_check(db: Database, s3: ObjectStorage, upload_id: UUID) -> None:
    task = _checks.get(upload_id)
    if task is None:
        task = _checks[upload_id] = asyncio.create_task(check(db, s3, upload_id), name=f"check-upload-{upload_id}")
        task.add_done_callback(lambda done: _check_ended(upload_id, done))
    await asyncio.wait({task}, timeout=_PATIENCE)
    if task.done():
        task.result()


def _check_ended(upload_id: UUID, task: asyncio.Task[None]) -> None:
    del _checks[upload_id]
    if not task.cancelled() and task.exception() is not None:
        log.warning("upload check failed", upload_id=str(upload_id), error=repr(task.exception()))


async def check(db: Database, s3: ObjectStorage, upload_id: UUID) -> None:
    """Reads what is stored and decides: completed, or rejected and removed. A decision is never changed."""
    async with db.read() as session:
        upload = await session.get_one(Upload, upload_id)
    if upload.status != UploadStatus.VERIFYING:
        return
    try:
        await _compare(s3, upload)
    except UploadRejected as refusal:
        await _decide(db, upload, UploadStatus.REJECTED, refusal.errors[0])
        await _discard(s3, upload)
    else:
        await _decide(db, upload, UploadStatus.COMPLETED, None)


async def _compare(s3: ObjectStorage, upload: Upload) -> None:
    key = object_key(upload.id)
    try:
        size, head = await s3.size(key), await s3.head(key, MAGIC_LENGTH)
        check_stored(upload.content_type, upload.size, size, head)
        if await s3.sha256(key) != upload.sha256:
            raise rejected("sha256", "The content has another SHA-256 than was declared.", "sha256_mismatch")
    except ObjectMissing:
        raise rejected("parts", "Nothing is stored.", "not_stored") from None


async def _decide(db: Database, upload: Upload, status: UploadStatus, why: FieldError | None) -> None:
    lifetime = ORPHAN_AGE if status is UploadStatus.COMPLETED else VERDICT_AGE
    async with db.transaction() as session:
        decided = await session.scalar(
            update(Upload)
            .where(Upload.id == upload.id, Upload.status == UploadStatus.VERIFYING)
            .values(status=status, rejection=why and asdict(why), expires_at=clock.now() + lifetime)
            .returning(Upload.id)
        )
        if decided and status is UploadStatus.COMPLETED:
            await outbox.emit(session, UploadCompleted(upload_id=upload.id))


async def _discard(s3: ObjectStorage, upload: Upload) -> None:
    try:
        await s3.discard(object_key(upload.id))
    except ServiceUnavailable:
        log.warning("upload not discarded yet", upload_id=str(upload.id))


async def take_into_use(
    session: AsyncSession, owners: Collection[UUID], purpose: UploadPurpose, wanted: Mapping[str, UUID]
) -> None:
    """Gives completed, unused uploads (by request field) to a lesson; raises `Invalid` naming those that cannot be."""
    if not wanted:
        return
    taken = set(
        await session.scalars(
            update(Upload)
            .where(
                Upload.id.in_(wanted.values()),
                Upload.owner_id.in_(owners),
                Upload.purpose == purpose,
                Upload.status == UploadStatus.COMPLETED,
                Upload.expires_at.is_not(None),
            )
            .values(expires_at=None)
            .returning(Upload.id)
            .execution_options(synchronize_session=False)
        )
    )
    message = f"This is not a completed, unused upload for the purpose {purpose}."
    errors = [FieldError(field, message, "upload_not_usable") for field, id_ in wanted.items() if id_ not in taken]
    if errors:
        raise Invalid("An upload cannot be used here.", errors=errors)


async def release(session: AsyncSession, upload_ids: Collection[UUID]) -> None:
    """Lets go of uploads nobody uses any more; `purge` removes them once this is committed."""
    if upload_ids:
        await session.execute(
            update(Upload)
            .where(Upload.id.in_(upload_ids))
            .values(status=UploadStatus.DELETING, expires_at=clock.now())
            .execution_options(synchronize_session=False)
        )


async def release_lessons(session: AsyncSession, lessons: ColumnElement[bool]) -> list[UUID]:
    """Lets go of every upload of these lessons, which the caller deletes next."""
    videos = select(Lesson.video_upload_id).where(lessons, Lesson.video_upload_id.is_not(None))
    attachments = select(LessonAttachment.upload_id).join(Lesson, Lesson.id == LessonAttachment.lesson_id)
    found = [id_ for id_ in await session.scalars(videos.union_all(attachments.where(lessons))) if id_]
    await release(session, found)
    return found


async def abandon(session: AsyncSession, caller: Principal, upload_id: UUID) -> UUID:
    """Gives an upload up; raises `UploadInUse` while a lesson has it."""
    upload = await own(session, caller, upload_id, lock=True)
    if upload.expires_at is None:
        raise UploadInUse("A lesson uses this upload: take it out of the lesson instead.")
    await release(session, [upload.id])
    return upload.id


async def purge(db: Database, s3: ObjectStorage, upload_ids: Collection[UUID]) -> None:
    """Removes the bytes, then the rows, of uploads that were let go. What fails is left to `purge_abandoned`."""
    for upload_id in upload_ids:
        try:
            await _purge(db, s3, upload_id)
        except (DomainError, OSError) as error:
            log.warning("upload not purged yet", upload_id=str(upload_id), error=repr(error))


async def _purge(db: Database, s3: ObjectStorage, upload_id: UUID) -> None:
    await s3.discard(object_key(upload_id))
    async with db.transaction() as session:
        await session.execute(delete(Upload).where(Upload.id == upload_id, Upload.status == UploadStatus.DELETING))


async def purge_abandoned(db: Database, s3: ObjectStorage, now: datetime) -> int:
    """Removes a batch of what was let go, never completed, rejected or never used; how many.

    To be called again and again by a sweeper. Raises `ServiceUnavailable` while S3 does not answer.
    """
    async with db.transaction() as session:
        await session.execute(
            update(Upload)
            .where(Upload.expires_at <= now, Upload.status != UploadStatus.DELETING)
            .values(status=UploadStatus.DELETING)
            .execution_options(synchronize_session=False)
        )
        removable = select(Upload.id).where(Upload.status == UploadStatus.DELETING, Upload.expires_at.is_not(None))
        ids = (await session.scalars(removable.order_by(Upload.expires_at).limit(_BATCH))).all()
    for upload_id in ids:
        await _purge(db, s3, upload_id)
    return len(ids)
