"""Which files may be uploaded, how large, in which parts, and how their first bytes prove the declared type."""

import codecs
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import quote
from uuid import UUID

from domain.errors import Conflict, DomainError, FieldError, Invalid, Kind, NotFound
from domain.texts import is_one_line

MIB: Final = 1024**2
MIN_PART: Final = 8 * MIB
"""S3 asks for at least 5 MiB in every part but the last."""
MAX_PARTS: Final = 100
MAGIC_LENGTH: Final = 4096
"""How many of a file's first bytes are looked at."""
MAX_ATTACHMENT: Final = 200 * MIB
MAX_OPEN_UPLOADS: Final = 50
"""Uploads one user may have begun and not attached to a lesson."""
ORPHAN_AGE: Final = timedelta(days=7)
"""How long a completed upload waits to be attached before it is removed."""
VERDICT_AGE: Final = timedelta(days=1)
"""How long a check may take, and how long its refusal can be read."""


class UploadPurpose(StrEnum):
    ATTACHMENT = "attachment"
    VIDEO = "video"


class UploadStatus(StrEnum):
    """pending → verifying → completed or rejected; from each of them to deleting, after which the row goes too."""

    PENDING = "pending"
    VERIFYING = "verifying"
    COMPLETED = "completed"
    REJECTED = "rejected"
    DELETING = "deleting"


class UploadNotFound(NotFound):
    title = "No such upload"


class UploadInUse(Conflict):
    """The upload belongs to a lesson; it goes when the lesson lets go of it."""

    title = "The upload is in use"


class UploadRejected(Invalid):
    """What was stored is not what was declared; it is removed, and `errors` names the wrong field."""

    title = "The upload was rejected"


class UploadPartsInvalid(Invalid):
    """The parts named do not make a whole file; the upload stays open and may be completed again."""

    title = "The parts do not fit"


class TooManyUploads(DomainError):
    kind = Kind.TOO_MANY
    title = "Too many uploads are open"


@dataclass(frozen=True, slots=True)
class FileType:
    """A type that may be stored. `magic` are (offset, bytes) pairs of which one must match; none means plain text."""

    content_type: str
    extensions: frozenset[str]
    purposes: frozenset[UploadPurpose]
    magic: tuple[tuple[int, bytes], ...] = ()

    def matches(self, head: bytes) -> bool:
        """Whether a file of this type may begin with `head` (its first `MAGIC_LENGTH` bytes)."""
        if self.magic:
            return any(head[offset : offset + len(mark)] == mark for offset, mark in self.magic)
        return _is_text(head)


def _is_text(head: bytes) -> bool:
    try:
        # A full head may end in the middle of a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < MAGIC_LENGTH)
    except UnicodeDecodeError:
        return False
    return all(unicodedata.category(char) != "Cc" or char in "\t\n\r\f" for char in text)


_ATTACHMENT = frozenset({UploadPurpose.ATTACHMENT})
_VIDEO = frozenset({UploadPurpose.VIDEO, UploadPurpose.ATTACHMENT})
_OFFICE = "application/vnd.openxmlformats-officedocument"
_ZIP = ((0, b"PK\x03\x04"),)


def _type(
    content_type: str,
    *extensions: str,
    magic: tuple[tuple[int, bytes], ...] = (),
    purposes: frozenset[UploadPurpose] = _ATTACHMENT,
) -> FileType:
    return FileType(content_type, frozenset(extensions), purposes, magic)


# Nothing a browser would run: no HTML, no SVG, no scripts.
FILE_TYPES: Final = {
    file_type.content_type: file_type
    for file_type in (
        _type("application/pdf", "pdf", magic=((0, b"%PDF-"),)),
        _type("application/zip", "zip", magic=_ZIP),
        _type(f"{_OFFICE}.wordprocessingml.document", "docx", magic=_ZIP),
        _type(f"{_OFFICE}.spreadsheetml.sheet", "xlsx", magic=_ZIP),
        _type(f"{_OFFICE}.presentationml.presentation", "pptx", magic=_ZIP),
        _type("text/plain", "txt"),
        _type("text/csv", "csv"),
        _type("text/markdown", "md"),
        _type("image/png", "png", magic=((0, b"\x89PNG\r\n\x1a\n"),)),
        _type("image/jpeg", "jpg", "jpeg", magic=((0, b"\xff\xd8\xff"),)),
        _type("image/gif", "gif", magic=((0, b"GIF87a"), (0, b"GIF89a"))),
        _type("image/webp", "webp", magic=((8, b"WEBPVP8"),)),
        _type("audio/mpeg", "mp3", magic=((0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"), (0, b"\xff\xf2"))),
        _type("audio/mp4", "m4a", magic=((4, b"ftyp"),)),
        _type("audio/ogg", "ogg", "oga", magic=((0, b"OggS"),)),
        _type("audio/wav", "wav", magic=((8, b"WAVE"),)),
        _type("video/mp4", "mp4", "m4v", magic=((4, b"ftyp"),), purposes=_VIDEO),
        _type("video/webm", "webm", magic=((0, b"\x1a\x45\xdf\xa3"),), purposes=_VIDEO),
        _type("video/quicktime", "mov", magic=((4, b"ftypqt"), (4, b"moov"), (4, b"mdat")), purposes=_VIDEO),
    )
}
"""Every type that may be uploaded, by its content type."""


def check_declaration(filename: str, content_type: str, size: int, purpose: UploadPurpose, *, max_size: int) -> None:
    """Raises `Invalid`, naming each wrong field, unless such a file may be uploaded. Sizes are bytes."""
    errors = []
    file_type = FILE_TYPES.get(content_type)
    limit = max_size if purpose is UploadPurpose.VIDEO else min(MAX_ATTACHMENT, max_size)
    if file_type is None or purpose not in file_type.purposes:
        errors.append(FieldError("content_type", f"This type cannot be uploaded as {purpose}.", "type_not_allowed"))
    elif filename.rpartition(".")[2].lower() not in file_type.extensions:
        expected = ", ".join(f".{extension}" for extension in sorted(file_type.extensions))
        errors.append(FieldError("filename", f"A {content_type} file ends in {expected}.", "extension_mismatch"))
    if not 0 < size <= limit:
        errors.append(FieldError("size", f"The size must be between 1 and {limit} bytes.", "size_not_allowed"))
    if not is_plain_filename(filename):
        errors.append(FieldError("filename", "A name of 1 to 200 characters without path is expected.", "invalid"))
    if errors:
        raise Invalid("This file cannot be uploaded.", errors=errors)


def is_plain_filename(filename: str) -> bool:
    """Whether this is a bare file name: printable, no folder, not hidden, at most 200 characters."""
    return (
        0 < len(filename) <= 200
        and is_one_line(filename)
        and filename == filename.strip()
        and not filename.startswith(".")
        and not any(char in '/\\:*?"<>|' for char in filename)
    )


def object_key(upload_id: UUID | str) -> str:
    """Where an upload's bytes are stored: a name of ours, never the user's."""
    return f"uploads/{upload_id}"


def part_sizes(size: int) -> list[int]:
    """The bytes of each part of a file of `size` bytes; all but the last are equal, at most `MAX_PARTS`."""
    part = max(MIN_PART, -(-size // MAX_PARTS // MIB) * MIB)
    whole, rest = divmod(size, part)
    return [part] * whole + ([rest] if rest else [])


def check_parts(numbers: Collection[int], expected: int) -> None:
    """Raises `UploadPartsInvalid` unless `numbers` are exactly 1 to `expected`."""
    if sorted(numbers) != list(range(1, expected + 1)):
        message = f"Name each of the parts 1 to {expected} once."
        raise UploadPartsInvalid("The parts do not fit.", errors=[FieldError("parts", message, "parts_mismatch")])


def check_stored(content_type: str, declared_size: int, stored_size: int, head: bytes) -> None:
    """Raises `UploadRejected` unless the stored size and first bytes are what was declared."""
    if stored_size != declared_size:
        raise rejected("size", f"{declared_size} bytes were declared, {stored_size} arrived.", "size_mismatch")
    if not FILE_TYPES[content_type].matches(head):
        raise rejected("content_type", f"The content is not {content_type}.", "type_mismatch")


def rejected(field: str, message: str, code: str) -> UploadRejected:
    """The refusal of what was stored, naming the declared field it contradicts."""
    return UploadRejected(
        "What arrived is not what was declared; it was removed.", errors=[FieldError(field, message, code)]
    )


def content_disposition(filename: str, *, inline: bool) -> str:
    """The header value (RFC 6266) under which a browser shows or saves a file of any name."""
    kind = "inline" if inline else "attachment"
    ascii_name = filename.encode("ascii", "replace").decode().replace("\\", "_").replace('"', "_")
    return f"{kind}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(filename, safe='')}"
