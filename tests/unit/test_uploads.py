import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.uploads import (
    FILE_TYPES,
    MAGIC_LENGTH,
    MAX_ATTACHMENT,
    MAX_PARTS,
    MIB,
    MIN_PART,
    UploadPartsInvalid,
    UploadPurpose,
    UploadRejected,
    check_declaration,
    check_parts,
    check_stored,
    content_disposition,
    is_plain_filename,
    part_sizes,
)

GIB = 1024 * MIB
HEADS = {
    "application/pdf": b"%PDF-1.7\n",
    "application/zip": b"PK\x03\x04\x14\x00",
    "image/png": b"\x89PNG\r\n\x1a\n\0\0",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a..",
    "image/webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "audio/mpeg": b"ID3\x04",
    "audio/wav": b"RIFF\0\0\0\0WAVEfmt ",
    "video/mp4": b"\0\0\0\x18ftypmp42",
    "video/webm": b"\x1a\x45\xdf\xa3\x01",
    "video/quicktime": b"\0\0\0\x14ftypqt  ",
    "text/plain": "Grüße\r\n\tund mehr".encode(),
    "text/csv": b"a;b\n1;2\n",
}
EXECUTABLES = [b"MZ\x90\0", b"\x7fELF\x02", b"#!\0/bin/sh", b"\xca\xfe\xba\xbe"]


@pytest.mark.parametrize("content_type", sorted(HEADS))
def test_the_first_bytes_prove_the_type(content_type: str) -> None:
    head = HEADS[content_type]
    check_stored(content_type, 10, 10, head)
    with pytest.raises(UploadRejected) as refusal:
        check_stored(content_type, 10, 11, head)
    assert [error.field for error in refusal.value.errors] == ["size"]


@pytest.mark.parametrize("content_type", sorted(FILE_TYPES))
@pytest.mark.parametrize("head", EXECUTABLES)
def test_no_type_accepts_a_program(content_type: str, head: bytes) -> None:
    with pytest.raises(UploadRejected) as refusal:
        check_stored(content_type, 10, 10, head)
    assert [error.field for error in refusal.value.errors] == ["content_type"]


def test_nothing_a_browser_would_run_is_on_the_list() -> None:
    assert (
        not {"text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/xml"} & FILE_TYPES.keys()
    )


def test_text_may_be_cut_within_a_character() -> None:
    text = FILE_TYPES["text/plain"]
    whole = ("x" + "é" * MAGIC_LENGTH).encode()
    assert text.matches(whole[:MAGIC_LENGTH])
    assert not text.matches(whole[: MAGIC_LENGTH - 2])
    assert not text.matches(b"a\0b")


def test_a_declaration_names_every_wrong_field() -> None:
    check_declaration("a.pdf", "application/pdf", 1, UploadPurpose.ATTACHMENT, max_size=GIB)
    check_declaration("a.MP4", "video/mp4", GIB, UploadPurpose.VIDEO, max_size=GIB)
    with pytest.raises(Invalid) as refusal:
        check_declaration("a/b.exe", "application/pdf", MAX_ATTACHMENT + 1, UploadPurpose.ATTACHMENT, max_size=GIB)
    assert [(error.field, error.code) for error in refusal.value.errors] == [
        ("filename", "extension_mismatch"),
        ("size", "size_not_allowed"),
        ("filename", "invalid"),
    ]
    with pytest.raises(Invalid) as refusal:
        check_declaration("a.pdf", "application/pdf", 5, UploadPurpose.VIDEO, max_size=GIB)
    assert [error.field for error in refusal.value.errors] == ["content_type"]


@pytest.mark.parametrize("name", ["", ".htaccess", "a/b", "a\\b", "a:b", "a\nb", " a", "a" * 201, "a\u202eb"])
def test_what_is_no_plain_filename(name: str) -> None:
    assert not is_plain_filename(name)


@given(st.integers(1, 5 * GIB))
def test_parts_make_up_the_whole(size: int) -> None:
    sizes = part_sizes(size)
    assert sum(sizes) == size
    assert 1 <= len(sizes) <= MAX_PARTS
    assert set(sizes[:-1]) <= {sizes[0]}
    assert all(part >= MIN_PART for part in sizes[:-1])
    assert sizes[-1] <= sizes[0]


@pytest.mark.parametrize("numbers", [[], [1], [1, 3], [1, 2, 3], [2, 2], [0, 1]])
def test_parts_must_be_all_of_them_once(numbers: list[int]) -> None:
    check_parts([2, 1], 2)
    with pytest.raises(UploadPartsInvalid):
        check_parts(numbers, 2)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_any_filename_survives_the_header(filename: str) -> None:
    header = content_disposition(filename, inline=False)
    match = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([!-~]*)", header)
    assert match is not None
    assert header.isascii()
    assert unquote(match[2]) == filename
