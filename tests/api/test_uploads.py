import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sqlalchemy import text

from api.container import AppContainer
from core import clock
from core.db import Database
from core.integrations.s3 import ObjectMissing, Part
from core.settings import Settings
from domain.uploads import MIB, MIN_PART, ORPHAN_AGE, VERDICT_AGE, object_key
from models.upload import Upload
from services import uploads
from tests.api.conftest import MakeUser, serving
from tests.support.authoring import PDF, Author, problem, store


@pytest.fixture
async def author(client: httpx2.AsyncClient, make_user: MakeUser, container: AppContainer) -> Author:
    await container.s3.ensure_bucket()
    return Author(client, await make_user("teacher"))


async def complete(author: Author, upload_id: str, parts: list[dict[str, Any]]) -> httpx2.Response:
    return await author.client.post(f"/v1/uploads/{upload_id}/complete", json={"parts": parts}, headers=author.headers)


async def status_of(db: Database, upload_id: str) -> str | None:
    async with db.read() as session:
        found = await session.scalar(text("select status from uploads where id = :id"), {"id": upload_id})
        return found if found is None else str(found)


async def is_stored(container: AppContainer, upload_id: str) -> bool:
    try:
        await container.s3.size(object_key(upload_id))
    except ObjectMissing:
        return False
    return True


async def test_a_file_goes_straight_to_s3_in_parts(author: Author, container: AppContainer, db: Database) -> None:
    content = PDF + bytes(range(256)) * (MIN_PART // 256) + b"the end"
    begun = await author.begin_upload(content)
    assert [(part["number"], part["size"]) for part in begun["parts"]] == [
        (1, MIN_PART),
        (2, len(content) - MIN_PART),
    ]
    assert begun["status"] == "pending"
    parts = await store(begun, content)
    answer = await complete(author, begun["id"], parts[::-1])
    assert (answer.status_code, answer.json()) == (200, begun | {"status": "completed", "parts": []})
    assert await complete_again_is_the_same(author, begun["id"], parts, answer)
    assert await container.s3.sha256(object_key(begun["id"])) == begun["sha256"]
    async with db.read() as session:
        events = await session.scalars(
            text("select type from outbox where subject = :subject"), {"subject": f"upload/{begun['id']}"}
        )
        assert list(events) == ["upload.completed.v1"]


async def complete_again_is_the_same(
    author: Author, upload_id: str, parts: list[dict[str, Any]], first: httpx2.Response
) -> bool:
    again = await complete(author, upload_id, parts)
    return (again.status_code, again.json()) == (first.status_code, first.json())


@pytest.mark.parametrize(
    ("declared", "field", "code"),
    [
        ({"content_type": "text/html"}, "content_type", "type_not_allowed"),
        ({"content_type": "image/svg+xml"}, "content_type", "type_not_allowed"),
        ({"purpose": "video"}, "content_type", "type_not_allowed"),
        ({"filename": "slides.exe"}, "filename", "extension_mismatch"),
        ({"filename": "../slides.pdf"}, "filename", "invalid"),
        ({"filename": "a\nb.pdf"}, "filename", "invalid"),
        ({"size": 0}, "size", "size_not_allowed"),
        ({"size": 200 * MIB + 1}, "size", "size_not_allowed"),
        ({"sha256": "abc"}, "sha256", "string_pattern_mismatch"),
        ({"purpose": "malware"}, "purpose", "enum"),
    ],
)
async def test_what_may_not_be_uploaded_is_refused_before_it_is(
    author: Author, declared: dict[str, object], field: str, code: str
) -> None:
    body = {
        "filename": "slides.pdf",
        "content_type": "application/pdf",
        "size": 9,
        "sha256": "0" * 64,
        "purpose": "attachment",
    }
    answer = await author.client.post("/v1/uploads", json=body | declared, headers=author.headers)
    status, _, errors = problem(answer)
    assert (status, errors) == (422, [(field, code)])


@pytest.mark.parametrize(
    ("content", "declared", "field", "code"),
    [
        (b"MZ not a pdf", {}, "content_type", "type_mismatch"),
        (PDF, {"sha256": hashlib.sha256(b"else").hexdigest()}, "sha256", "sha256_mismatch"),
        (
            b"%PDF-1.7",
            {"filename": "n.txt", "content_type": "text/plain", "sha256": "0" * 64},
            "sha256",
            "sha256_mismatch",
        ),
    ],
)
async def test_what_is_not_as_declared_is_refused_and_removed(
    author: Author,
    container: AppContainer,
    content: bytes,
    declared: dict[str, object],
    field: str,
    code: str,
) -> None:
    begun = await author.begin_upload(content, **declared)
    parts = await store(begun, content)
    for _ in range(2):
        assert problem(await complete(author, begun["id"], parts)) == (422, "UploadRejected", [(field, code)])
        assert not await is_stored(container, begun["id"])


async def test_nothing_longer_than_declared_can_be_stored(author: Author) -> None:
    begun = await author.begin_upload(PDF)
    async with httpx2.AsyncClient() as browser:
        answer = await browser.put(begun["parts"][0]["url"], content=PDF + b"!")
    assert answer.status_code == 403


async def test_a_size_that_differs_is_refused_and_removed(
    author: Author, container: AppContainer, db: Database
) -> None:
    begun = await author.begin_upload(PDF)
    parts = await store(begun, PDF)
    async with db.transaction() as session:
        await session.execute(text("update uploads set size = size + 1 where id = :id"), {"id": begun["id"]})
    assert problem(await complete(author, begun["id"], parts)) == (422, "UploadRejected", [("size", "size_mismatch")])
    assert not await is_stored(container, begun["id"])


async def test_wrong_parts_leave_the_upload_open(author: Author) -> None:
    begun = await author.begin_upload(PDF)
    [part] = await store(begun, PDF)
    for parts, code in (
        ([part, {"number": 2, "etag": "x"}], "parts_mismatch"),
        ([{"number": 2, "etag": part["etag"]}], "parts_mismatch"),
        ([{"number": 1, "etag": '"0123456789abcdef0123456789abcdef"'}], "parts_unknown"),
    ):
        assert problem(await complete(author, begun["id"], parts)) == (422, "UploadPartsInvalid", [("parts", code)])
    assert (await complete(author, begun["id"], [part])).json()["status"] == "completed"


async def test_an_answer_that_was_lost_can_be_asked_for_again(
    author: Author, container: AppContainer, db: Database
) -> None:
    begun = await author.begin_upload(PDF)
    parts = await store(begun, PDF)
    assert (await complete(author, begun["id"], parts)).status_code == 200
    # As if the process had died between S3's answer and its own note of it.
    async with db.transaction() as session:
        await session.execute(text("update uploads set status = 'pending' where id = :id"), {"id": begun["id"]})
    assert (await complete(author, begun["id"], parts)).json()["status"] == "completed"


async def test_links_can_be_had_anew_while_parts_are_missing(author: Author) -> None:
    begun = await author.begin_upload(PDF)
    read = await author.call("GET", f"/uploads/{begun['id']}", status=200)
    assert [part["size"] for part in read["parts"]] == [len(PDF)]
    parts = await store(read, PDF)
    assert (await complete(author, begun["id"], parts)).json()["status"] == "completed"
    assert (await author.call("GET", f"/uploads/{begun['id']}", status=200))["parts"] == []


async def test_other_people_do_not_see_an_upload(author: Author, make_user: MakeUser) -> None:
    begun = await author.begin_upload()
    stranger = Author(author.client, await make_user("teacher"))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/complete")):
        body = {"parts": [{"number": 1, "etag": "x"}]} if method == "POST" else None
        answer = await author.client.request(
            method, f"/v1/uploads/{begun['id']}{path}", json=body, headers=stranger.headers
        )
        assert problem(answer) == (404, "UploadNotFound", [])


async def test_an_upload_can_be_given_up_unless_a_lesson_uses_it(
    author: Author, container: AppContainer, db: Database
) -> None:
    begun, done = await author.begin_upload(), await author.upload()
    for upload_id in (begun["id"], done):
        await author.call("DELETE", f"/uploads/{upload_id}", status=204)
        assert await status_of(db, upload_id) is None
        assert not await is_stored(container, upload_id)
    assert (await httpx2_put(begun["parts"][0]["url"])).status_code == 404
    used = await author.upload()
    await author.lesson(await author.module((await author.course())["id"]), attachment_ids=[used])
    answer = await author.client.delete(f"/v1/uploads/{used}", headers=author.headers)
    assert problem(answer) == (409, "UploadInUse", [])


async def httpx2_put(url: str) -> httpx2.Response:
    async with httpx2.AsyncClient() as browser:
        return await browser.put(url, content=PDF)


async def test_abandoned_uploads_are_removed_when_their_time_has_come(
    author: Author, container: AppContainer, db: Database
) -> None:
    begun, unused, used = (await author.begin_upload())["id"], await author.upload(), await author.upload()
    await author.lesson(await author.module((await author.course())["id"]), attachment_ids=[used])
    now = clock.now()

    async def sweep(age: timedelta) -> list[str | None]:
        while await uploads.purge_abandoned(db, container.s3, now + age):
            pass
        return [await status_of(db, upload_id) for upload_id in (begun, unused, used)]

    slack = timedelta(minutes=1)
    assert await sweep(VERDICT_AGE - slack) == ["pending", "completed", "completed"]
    assert await sweep(VERDICT_AGE + slack) == [None, "completed", "completed"]
    assert await sweep(ORPHAN_AGE + slack) == [None, None, "completed"]
    assert [await is_stored(container, upload_id) for upload_id in (unused, used)] == [False, True]


async def test_bytes_are_not_lost_track_of_while_s3_is_away(
    author: Author, container: AppContainer, db: Database, settings: Settings
) -> None:
    slides = await author.upload()
    lesson = await author.lesson(await author.module((await author.course())["id"]), attachment_ids=[slides])
    away = settings.model_copy(
        update={"s3": settings.s3.model_copy(update={"endpoint_url": "http://127.0.0.1:1", "public_endpoint_url": ""})}
    )
    async with serving(away) as (_, client):
        lonely = Author(client, author.headers)
        read = await lonely.call("GET", f"/lessons/{lesson['id']}", status=200)
        assert read["attachments"][0]["id"] == slides
        body = {"filename": "a.pdf", "content_type": "application/pdf", "size": 9, "sha256": "0" * 64}
        refused = await client.post("/v1/uploads", json=body | {"purpose": "attachment"}, headers=author.headers)
        assert (problem(refused), "retry-after" in refused.headers) == ((503, "ServiceUnavailable", []), True)
        await lonely.call("DELETE", f"/lessons/{lesson['id']}", status=204)
    assert (await status_of(db, slides), await is_stored(container, slides)) == ("deleting", True)
    while await uploads.purge_abandoned(db, container.s3, clock.now()):
        pass
    assert (await status_of(db, slides), await is_stored(container, slides)) == (None, False)


async def test_a_user_may_leave_only_so_many_uploads_unused(
    author: Author, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_OPEN_UPLOADS", 2)
    first, _ = await author.begin_upload(), await author.begin_upload()
    body = {"filename": "a.pdf", "content_type": "application/pdf", "size": 9, "sha256": "0" * 64}
    answer = await author.client.post("/v1/uploads", json=body | {"purpose": "attachment"}, headers=author.headers)
    assert problem(answer) == (429, "TooManyUploads", [])
    await author.call("DELETE", f"/uploads/{first['id']}", status=204)
    await author.begin_upload()


async def test_a_check_that_outlasts_the_request_is_told_so(
    author: Author, db: Database, container: AppContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await author.begin_upload(PDF)
    parts = await store(begun, PDF)
    async with db.read() as session:
        upload = await session.get_one(Upload, UUID(begun["id"]))
    await uploads._assemble(db, container.s3, upload, [Part(part["number"], part["etag"]) for part in parts])
    monkeypatch.setattr(uploads, "_PATIENCE", 0.1)
    async with db.transaction() as session:  # while the row is locked, no check can end
        await session.get_one(Upload, upload.id, with_for_update=True)
        answer = await complete(author, begun["id"], parts)
    assert (answer.status_code, answer.json()["status"]) == (202, "verifying")
    assert answer.headers["location"] == f"/v1/uploads/{begun['id']}"
    monkeypatch.undo()
    assert (await complete(author, begun["id"], parts)).json()["status"] == "completed"
    assert UUID(begun["id"]) not in uploads._checks
