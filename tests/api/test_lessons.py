from uuid import UUID, uuid4

import httpx2
import pytest
from sqlalchemy import text

from api.container import AppContainer
from api.schemas.lessons import LessonRead
from core import clock
from core.db import Database
from domain.enrollments import EnrollmentStatus
from services import enrollments
from tests.api.conftest import MakeAccount, MakeUser
from tests.support.authoring import PDF, Author, fetch, problem

MP4 = b"\0\0\0\x18ftypmp42" + b"\0" * 500
VIDEO = {"filename": "Knödel.mp4", "content_type": "video/mp4", "purpose": "video"}


@pytest.fixture
async def author(client: httpx2.AsyncClient, make_user: MakeUser, container: AppContainer) -> Author:
    await container.s3.ensure_bucket()
    return Author(client, await make_user("teacher"))


@pytest.fixture
async def module_id(author: Author) -> str:
    return await author.module((await author.course(price=None))["id"])


async def stored(db: Database) -> dict[str, str]:
    """The status of every upload that has a row, by id."""
    async with db.read() as session:
        return {str(row.id): row.status for row in await session.execute(text("select id, status from uploads"))}


async def test_a_lesson_is_rendered_safe(author: Author, module_id: str) -> None:
    body = "# Flour\n\n<script>alert(1)</script> [x](javascript:alert(1)) **bold**"
    created = await author.lesson(module_id, body=body)
    lesson = await author.call("GET", f"/lessons/{created['id']}", status=200)
    assert lesson == created
    assert lesson["body"] == body
    assert lesson["body_html"] == (
        "<h1>Flour</h1>\n<p>&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1)) <strong>bold</strong></p>\n"
    )


async def test_a_lesson_has_the_documented_shape(author: Author, module_id: str) -> None:
    video, slides = await author.upload(MP4, **VIDEO), await author.upload()
    created = await author.lesson(module_id, 'Quotes " \\ and ünïcode', video_upload_id=video, attachment_ids=[slides])
    answer = await author.client.get(f"/v1/lessons/{created['id']}", headers=author.headers)
    read = LessonRead.model_validate_json(answer.content)
    assert (read.title, str(read.module_id), read.position) == ('Quotes " \\ and ünïcode', module_id, 0)
    assert read.video is not None
    assert (str(read.video.id), read.video.filename, read.video.size) == (video, "Knödel.mp4", len(MP4))
    assert [(str(file.id), file.content_type) for file in read.attachments] == [(slides, "application/pdf")]
    outline = await author.call("GET", f"/courses/{read.course_id}/outline", status=200)
    assert outline["modules"][0]["lessons"][0] | {"id": ""} == {
        "id": "",
        "title": read.title,
        "position": 0,
        "has_video": True,
        "attachments": 1,
    }


async def test_files_are_read_by_signed_links_only(author: Author, module_id: str, container: AppContainer) -> None:
    video, slides = await author.upload(MP4, **VIDEO), await author.upload()
    lesson = await author.lesson(module_id, video_upload_id=video, attachment_ids=[slides])
    shown = await fetch(lesson["video"]["url"])
    assert (shown.status_code, shown.content, shown.headers["content-type"]) == (200, MP4, "video/mp4")
    assert shown.headers["content-disposition"] == ("inline; filename=\"Kn?del.mp4\"; filename*=UTF-8''Kn%C3%B6del.mp4")
    saved = await fetch(lesson["attachments"][0]["url"])
    assert (saved.status_code, saved.content) == (200, PDF)
    assert saved.headers["content-disposition"].startswith("attachment; ")
    unsigned = await fetch(lesson["attachments"][0]["url"].partition("?")[0])
    assert unsigned.status_code == 403
    altered = await fetch(lesson["video"]["url"].replace(video, slides))
    assert altered.status_code == 403


async def test_only_students_of_the_course_read_its_lessons(
    author: Author, db: Database, make_account: MakeAccount, make_user: MakeUser
) -> None:
    course_id, _, lesson_id = await author.published(price=None)
    url = f"/v1/lessons/{lesson_id}"
    assert (await author.client.get(url)).status_code == 401
    student = await make_account()
    refused = await author.client.get(url, headers=student.headers)
    assert problem(refused) == (403, "AccessRequired", [])
    assert f"/v1/courses/{course_id}/outline" in refused.json()["detail"]
    async with db.transaction() as session:
        enrollment = await enrollments.enroll_free(session, student.user_id, UUID(course_id), clock.now())
    assert (await author.client.get(url, headers=student.headers)).json()["id"] == lesson_id
    assert (await author.client.get(url, headers=await make_user("admin"))).json()["id"] == lesson_id

    await author.call("POST", f"/courses/{course_id}/unpublish", status=200)
    for path in (url, f"/v1/courses/{course_id}", f"/v1/courses/{course_id}/outline"):
        assert (await author.client.get(path, headers=student.headers)).status_code == 200, path
        assert (await author.client.get(path, headers=await make_user())).status_code == 404, path

    async with db.transaction() as session:
        await enrollments.end(session, enrollment.id, EnrollmentStatus.WITHDRAWN, clock.now())
    assert (await author.client.get(url, headers=student.headers)).status_code == 404


async def test_a_patch_changes_only_what_it_names(author: Author, module_id: str) -> None:
    slides = await author.upload()
    lesson = await author.lesson(module_id, attachment_ids=[slides])
    renamed = await author.call("PATCH", f"/lessons/{lesson['id']}", {"title": "Grinding"}, status=200)
    assert renamed == lesson | {"title": "Grinding", "updated_at": renamed["updated_at"]}


async def test_attachments_are_set_in_order_and_dropped_ones_are_removed(
    author: Author, module_id: str, container: AppContainer, db: Database
) -> None:
    first, second, third = [await author.upload(PDF + bytes([n + 48])) for n in range(3)]
    lesson = await author.lesson(module_id, attachment_ids=[first, second])
    path = f"/lessons/{lesson['id']}"
    url = lesson["attachments"][0]["url"]
    assert (await fetch(url)).status_code == 200
    changed = await author.call("PATCH", path, {"attachment_ids": [third, second]}, status=200)
    assert [file["id"] for file in changed["attachments"]] == [third, second]
    assert (await fetch(url)).status_code == 404
    rows = await stored(db)
    assert (first in rows, rows[second], rows[third]) == (False, "completed", "completed")


async def test_a_replaced_video_is_removed(author: Author, module_id: str, db: Database) -> None:
    old, new = await author.upload(MP4, **VIDEO), await author.upload(MP4 + b"2", **VIDEO)
    lesson = await author.lesson(module_id, video_upload_id=old)
    changed = await author.call("PATCH", f"/lessons/{lesson['id']}", {"video_upload_id": new}, status=200)
    assert (changed["video"]["id"], changed["body"]) == (new, lesson["body"])
    assert (await fetch(lesson["video"]["url"])).status_code == 404
    gone = await author.call("PATCH", f"/lessons/{lesson['id']}", {"video_upload_id": None}, status=200)
    assert gone["video"] is None
    rows = await stored(db)
    assert (old in rows, new in rows) == (False, False)


@pytest.mark.parametrize("what", ["lesson", "module", "course"])
async def test_deleting_removes_the_files(author: Author, db: Database, what: str) -> None:
    course_id = (await author.course())["id"]
    module_id = await author.module(course_id)
    video, slides = await author.upload(MP4, **VIDEO), await author.upload()
    lesson = await author.lesson(module_id, video_upload_id=video, attachment_ids=[slides])
    ids = {"lesson": lesson["id"], "module": module_id, "course": course_id}
    await author.call("DELETE", f"/{what}s/{ids[what]}", status=204)
    for file in (lesson["video"], *lesson["attachments"]):
        assert (await fetch(file["url"])).status_code == 404
        assert file["id"] not in await stored(db)


async def test_only_free_completed_uploads_of_ones_own_can_be_used(
    author: Author, module_id: str, make_user: MakeUser
) -> None:
    stranger = Author(author.client, await make_user("teacher"))
    used, mine = await author.upload(), await author.upload()
    await author.lesson(module_id, attachment_ids=[used])
    pending = (await author.begin_upload())["id"]
    foreign, unknown = await stranger.upload(), str(uuid4())
    film = await author.upload(MP4, **VIDEO)
    body = {"title": "x", "video_upload_id": mine, "attachment_ids": []}
    answer = await author.client.post(f"/v1/modules/{module_id}/lessons", json=body, headers=author.headers)
    assert problem(answer) == (422, "Invalid", [("video_upload_id", "upload_not_usable")])
    body = {"title": "x", "attachment_ids": [mine, used, pending, foreign, unknown, film]}
    answer = await author.client.post(f"/v1/modules/{module_id}/lessons", json=body, headers=author.headers)
    assert problem(answer) == (422, "Invalid", [(f"attachment_ids.{n}", "upload_not_usable") for n in range(1, 6)])
    twice = {"title": "x", "attachment_ids": [mine, mine]}
    answer = await author.client.post(f"/v1/modules/{module_id}/lessons", json=twice, headers=author.headers)
    assert problem(answer) == (422, "ValidationFailed", [("attachment_ids", "value_error")])
    await author.lesson(module_id, attachment_ids=[mine])


async def test_a_video_alone_is_content_enough_to_publish(author: Author) -> None:
    course_id = (await author.course())["id"]
    video = await author.upload(MP4, **VIDEO)
    await author.lesson(await author.module(course_id), body="", video_upload_id=video)
    assert (await author.publish(course_id))["status"] == "published"
