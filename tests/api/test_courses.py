from typing import Any
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from api.schemas.courses import OutlineRead
from core.db import Database
from tests.api.conftest import MakeAccount, MakeUser
from tests.support.authoring import COURSE, Author, problem, random_tail


@pytest.fixture
async def author(client: httpx2.AsyncClient, make_user: MakeUser) -> Author:
    return Author(client, await make_user("teacher"))


async def events_about(db: Database, course_id: str) -> list[str]:
    async with db.read() as session:
        found = await session.scalars(
            text("select type from outbox where subject = :subject order by seq"), {"subject": f"course/{course_id}"}
        )
        return list(found)


async def test_a_course_keeps_what_its_teacher_wrote(
    client: httpx2.AsyncClient, make_account: MakeAccount, make_user: MakeUser
) -> None:
    headers = await make_user("teacher")
    answer = await client.post("/v1/courses", json=COURSE, headers=headers)
    assert answer.status_code == 201
    created = answer.json()
    me = (await client.get("/v1/me", headers=headers)).json()
    expected = COURSE | {
        "id": created["id"],
        "teacher": {"id": me["id"], "name": me["name"]},
        "slug": f"fresh-bread-{random_tail(created['id'])}",
        "description_html": "<p>Flour, water, salt and <em>time</em>.</p>\n",
        "status": "draft",
        "published_at": None,
        "version": 1,
        "created_at": created["created_at"],
        "updated_at": created["updated_at"],
    }
    assert created == expected
    assert answer.headers["location"] == f"/v1/courses/{created['id']}"
    read = await client.get(f"/v1/courses/{created['id']}", headers=headers)
    assert (read.status_code, read.json(), read.headers["etag"]) == (200, expected, '"1"')


async def test_a_title_is_enough_for_a_draft(author: Author) -> None:
    created = await author.call("POST", "/courses", {"title": "  Later  "}, status=201)
    defaults: dict[str, object] = {
        "title": "Later",
        "summary": "",
        "description": "",
        "language": "en",
        "level": "beginner",
    }
    nothing: dict[str, object] = {"category": None, "tags": [], "price": None, "capacity": None}
    assert {name: created[name] for name in defaults | nothing} == defaults | nothing


@pytest.mark.parametrize(
    ("fields", "field", "code"),
    [
        ({"title": " "}, "title", "string_too_short"),
        ({"title": "two\nlines"}, "title", "value_error"),
        ({"description": "a\0b"}, "description", "value_error"),
        ({"language": "English"}, "language", "value_error"),
        ({"level": "expert"}, "level", "enum"),
        ({"category": "gossip"}, "category", "enum"),
        ({"tags": ["  "]}, "tags", "value_error"),
        ({"capacity": 0}, "capacity", "greater_than_equal"),
        ({"capacity": "30"}, "capacity", "int_type"),
        ({"owner_id": str(uuid4())}, "owner_id", "extra_forbidden"),
        ({"price": {"amount": 1.5, "currency": "usd"}}, "price.amount", "int_type"),
        ({"price": {"amount": 49, "currency": "usd"}}, "price.amount", "amount_not_chargeable"),
        ({"price": {"amount": 4900, "currency": "xyz"}}, "price.currency", "currency_not_supported"),
        ({"price": {"amount": 0, "currency": "usd"}}, "price.amount", "amount_not_chargeable"),
    ],
)
async def test_a_wrong_field_is_named(author: Author, fields: dict[str, object], field: str, code: str) -> None:
    answer = await author.client.post("/v1/courses", json=COURSE | fields, headers=author.headers)
    status, _, errors = problem(answer)
    assert (status, errors) == (422, [(field, code)])


async def test_a_patch_changes_only_what_it_names(author: Author) -> None:
    course = await author.course()
    path = f"/courses/{course['id']}"
    changed = await author.call(
        "PATCH", path, {"price": None, "tags": ["Sour  Dough"], "language": "PT-br"}, status=200
    )
    expected = course | {"price": None, "tags": ["sour dough"], "language": "pt-BR", "version": 2}
    assert changed == expected | {"updated_at": changed["updated_at"]}


async def test_the_address_follows_the_title_until_it_is_published(author: Author) -> None:
    course_id, _, _ = await author.published()
    renamed = await author.call("PATCH", f"/courses/{course_id}", {"title": "Stale Bread"}, status=200)
    assert (renamed["title"], renamed["slug"]) == ("Stale Bread", f"fresh-bread-{random_tail(course_id)}")
    draft = await author.course()
    renamed = await author.call("PATCH", f"/courses/{draft['id']}", {"title": "Éclairs!"}, status=200)
    assert renamed["slug"] == f"eclairs-{random_tail(draft['id'])}"


async def test_a_change_made_for_an_older_version_is_refused(author: Author) -> None:
    course = await author.course()
    url = f"/v1/courses/{course['id']}"
    fresh = await author.client.patch(url, json={"title": "A"}, headers=author.headers | {"If-Match": '"1"'})
    assert (fresh.status_code, fresh.headers["etag"]) == (200, '"2"')
    stale = await author.client.patch(url, json={"title": "B"}, headers=author.headers | {"If-Match": '"1"'})
    assert problem(stale) == (412, "CourseChanged", [])
    odd = await author.client.patch(url, json={"title": "B"}, headers=author.headers | {"If-Match": "one"})
    assert problem(odd) == (422, "InvalidEntityTag", [("If-Match", "invalid_etag")])
    assert (await author.call("GET", f"/courses/{course['id']}", status=200))["title"] == "A"


async def test_every_change_of_a_course_is_made_for_a_version(author: Author) -> None:
    course_id, module_id, lesson_id = await author.published()
    order = {"modules": [{"id": module_id, "lessons": [lesson_id]}]}
    changes: list[tuple[str, str, Any]] = [
        ("PATCH", f"/courses/{course_id}", {"title": "Bread"}),
        ("POST", f"/courses/{course_id}/modules", {"title": "Water"}),
        ("PUT", f"/courses/{course_id}/order", order),
        ("PATCH", f"/modules/{module_id}", {"title": "Grain"}),
        ("POST", f"/modules/{module_id}/lessons", {"title": "Sifting", "body": "Sift."}),
        ("PATCH", f"/lessons/{lesson_id}", {"title": "Grinding"}),
        ("DELETE", f"/lessons/{lesson_id}", None),
        ("DELETE", f"/modules/{module_id}", None),
        ("POST", f"/courses/{course_id}/publish", None),
        ("POST", f"/courses/{course_id}/unpublish", None),
        ("DELETE", f"/courses/{course_id}", None),
    ]
    for method, path, body in changes:
        refused = await author.client.request(
            method, f"/v1{path}", json=body, headers=author.headers | {"If-Match": '"1"'}
        )
        assert problem(refused) == (412, "CourseChanged", []), path
    tag = (await author.client.get(f"/v1/courses/{course_id}")).headers["etag"]
    tags = [tag]
    for method, path, body in [changes[0], changes[1], *changes[3:6]]:
        made = await author.client.request(method, f"/v1{path}", json=body, headers=author.headers | {"If-Match": tag})
        assert made.is_success, made.text
        tag = made.headers["etag"]
        tags.append(tag)
    assert tags == [f'"{int(tags[0][1:-1]) + number}"' for number in range(6)]
    read = await author.client.get(f"/v1/lessons/{lesson_id}", headers=author.headers)
    assert read.headers["etag"] == tag


async def test_an_order_answers_the_version_it_made(author: Author) -> None:
    course_id, module_id, lesson_id = await author.published()
    tag = (await author.client.get(f"/v1/courses/{course_id}")).headers["etag"]
    order = {"modules": [{"id": module_id, "lessons": [lesson_id]}]}
    url, headers = f"/v1/courses/{course_id}/order", author.headers | {"If-Match": tag}
    made = await author.client.put(url, json=order, headers=headers)
    assert (made.status_code, made.headers["etag"]) == (200, f'"{made.json()["version"]}"')
    assert problem(await author.client.put(url, json=order, headers=headers)) == (412, "CourseChanged", [])


async def test_publishing_an_incomplete_course_names_every_reason(author: Author) -> None:
    course = await author.call("POST", "/courses", {"title": "Empty"}, status=201)
    url = f"/v1/courses/{course['id']}/publish"
    answer = await author.client.post(url, headers=author.headers)
    reasons = [("summary", "missing"), ("description", "missing"), ("category", "missing"), ("modules", "missing")]
    assert problem(answer) == (409, "CourseIncomplete", reasons)

    await author.module(course["id"])
    second = await author.module(course["id"], "Water")
    await author.lesson(second, body=" \n")
    answer = await author.client.post(url, headers=author.headers)
    reasons = [*reasons[:3], ("modules.0.lessons", "missing"), ("modules.1.lessons.0.body", "missing")]
    assert problem(answer) == (409, "CourseIncomplete", reasons)
    assert (await author.call("GET", f"/courses/{course['id']}", status=200))["status"] == "draft"


async def test_a_course_is_published_unpublished_and_published_again(author: Author, db: Database) -> None:
    course_id, _, _ = await author.published()
    first = await author.publish(course_id)
    assert first["status"] == "published"
    off = await author.call("POST", f"/courses/{course_id}/unpublish", status=200)
    assert (off["status"], off["published_at"]) == ("unpublished", first["published_at"])
    assert await author.call("POST", f"/courses/{course_id}/unpublish", status=200) == off
    again = await author.publish(course_id)
    assert (again["status"], again["published_at"]) == ("published", first["published_at"])
    assert await events_about(db, course_id) == ["course.published.v1", "course.unpublished.v1", "course.published.v1"]


async def test_a_draft_cannot_be_unpublished(author: Author) -> None:
    course = await author.course()
    answer = await author.client.post(f"/v1/courses/{course['id']}/unpublish", headers=author.headers)
    assert problem(answer) == (409, "CourseNotPublished", [])


async def test_a_published_course_stays_complete_and_tells_of_changes(author: Author, db: Database) -> None:
    course_id, module_id, lesson_id = await author.published()
    for method, path, body, reason in (
        ("PATCH", f"/courses/{course_id}", {"category": None}, ("category", "missing")),
        ("PATCH", f"/courses/{course_id}", {"description": ""}, ("description", "missing")),
        ("PATCH", f"/lessons/{lesson_id}", {"body": ""}, ("modules.0.lessons.0.body", "missing")),
        ("DELETE", f"/lessons/{lesson_id}", None, ("modules.0.lessons", "missing")),
        ("DELETE", f"/modules/{module_id}", None, ("modules", "missing")),
    ):
        answer = await author.client.request(method, f"/v1{path}", json=body, headers=author.headers)
        assert problem(answer) == (409, "CourseIncomplete", [reason]), path
    assert await events_about(db, course_id) == ["course.published.v1"]
    await author.lesson(module_id, "Sifting")
    await author.call("PATCH", f"/courses/{course_id}", {"summary": "New."}, status=200)
    await author.call("PATCH", f"/modules/{module_id}", {"title": "Grain"}, status=200)
    assert await events_about(db, course_id) == ["course.published.v1"] + 3 * ["course.updated.v1"]


async def test_a_published_course_gets_new_modules(author: Author) -> None:
    course_id, first, lesson_id = await author.published()
    second = await author.module(course_id, "Water")
    assert await author.outline(course_id) == {"Flour": ["Milling"], "Water": []}
    await author.lesson(second, "Boiling")
    await author.call("DELETE", f"/lessons/{lesson_id}", status=204)
    assert await author.outline(course_id) == {"Flour": [], "Water": ["Boiling"]}
    await author.call("DELETE", f"/modules/{first}", status=204)
    answer = await author.client.delete(f"/v1/modules/{second}", headers=author.headers)
    assert problem(answer) == (409, "CourseIncomplete", [("modules", "missing")])


async def test_other_people_do_not_see_a_draft(author: Author, make_user: MakeUser) -> None:
    course = await author.course()
    module_id = await author.module(course["id"])
    lesson = await author.lesson(module_id)
    stranger = Author(author.client, await make_user("teacher"))
    for method, path, body in (
        ("GET", f"/courses/{course['id']}", None),
        ("GET", f"/courses/{course['id']}/outline", None),
        ("PATCH", f"/courses/{course['id']}", {"title": "Mine"}),
        ("DELETE", f"/courses/{course['id']}", None),
        ("POST", f"/courses/{course['id']}/publish", None),
        ("POST", f"/courses/{course['id']}/unpublish", None),
        ("POST", f"/courses/{course['id']}/modules", {"title": "Mine"}),
        ("PUT", f"/courses/{course['id']}/order", {"modules": []}),
    ):
        refused = await stranger.client.request(method, f"/v1{path}", json=body, headers=stranger.headers)
        assert problem(refused) == (404, "CourseNotFound", []), path
    for method, path, body, code in (
        ("PATCH", f"/modules/{module_id}", {"title": "Mine"}, "ModuleNotFound"),
        ("DELETE", f"/modules/{module_id}", None, "ModuleNotFound"),
        ("POST", f"/modules/{module_id}/lessons", {"title": "Mine"}, "ModuleNotFound"),
        ("GET", f"/lessons/{lesson['id']}", None, "LessonNotFound"),
        ("PATCH", f"/lessons/{lesson['id']}", {"title": "Mine"}, "LessonNotFound"),
        ("DELETE", f"/lessons/{lesson['id']}", None, "LessonNotFound"),
    ):
        refused = await stranger.client.request(method, f"/v1{path}", json=body, headers=stranger.headers)
        assert problem(refused) == (404, code, []), path
    for path in (f"/courses/{course['id']}", f"/courses/{course['id']}/outline"):
        assert problem(await author.client.get(f"/v1{path}")) == (404, "CourseNotFound", [])


async def test_other_people_cannot_change_a_published_course(author: Author, make_user: MakeUser) -> None:
    course_id, module_id, lesson_id = await author.published()
    stranger = await make_user("teacher")
    for method, path, body in (
        ("PATCH", f"/courses/{course_id}", {"title": "Mine"}),
        ("DELETE", f"/courses/{course_id}", None),
        ("POST", f"/courses/{course_id}/unpublish", None),
        ("PATCH", f"/modules/{module_id}", {"title": "Mine"}),
        ("DELETE", f"/lessons/{lesson_id}", None),
    ):
        refused = await author.client.request(method, f"/v1{path}", json=body, headers=stranger)
        assert problem(refused) == (403, "NotYourCourse", []), path


async def test_an_administrator_may_change_any_course(author: Author, make_user: MakeUser) -> None:
    course = await author.course()
    admin = Author(author.client, await make_user("admin"))
    changed = await admin.call("PATCH", f"/courses/{course['id']}", {"title": "Checked"}, status=200)
    assert (changed["title"], changed["teacher"]) == ("Checked", course["teacher"])


async def test_students_cannot_author(author: Author, make_user: MakeUser) -> None:
    student = await make_user("student")
    for method, path in (("POST", "/courses"), ("GET", "/me/courses"), ("POST", "/uploads")):
        refused = await author.client.request(method, f"/v1{path}", json=COURSE, headers=student)
        assert problem(refused) == (403, "PermissionDenied", [])


async def test_everybody_sees_a_published_course_and_its_outline(author: Author) -> None:
    course_id, module_id, lesson_id = await author.published()
    course = (await author.client.get(f"/v1/courses/{course_id}")).json()
    answer = await author.client.get(f"/v1/courses/{course_id}/outline")
    lesson = {"id": lesson_id, "title": "Milling", "position": 0, "has_video": False, "attachments": 0}
    shared = ("id", "title", "slug", "summary", "language", "level", "category", "status", "version", "price")
    assert answer.json() == {name: course[name] for name in shared} | {
        "modules": [{"id": module_id, "title": "Flour", "position": 0, "lessons": [lesson]}]
    }
    OutlineRead.model_validate_json(answer.content)
    current = await author.client.get(
        f"/v1/courses/{course_id}/outline", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (current.status_code, current.content) == (304, b"")
    await author.call("PATCH", f"/modules/{module_id}", {"title": "Grain"}, status=200)
    changed = await author.client.get(
        f"/v1/courses/{course_id}/outline", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (changed.status_code, changed.json()["modules"][0]["title"]) == (200, "Grain")


async def test_the_kept_outline_is_what_the_tables_say(author: Author, db: Database) -> None:
    course_id, module_id, _ = await author.published()
    await author.lesson(module_id, 'Quotes " and \\ and ünïcode')
    kept = (await author.client.get(f"/v1/courses/{course_id}/outline")).json()
    async with db.transaction() as session:
        await session.execute(text("update courses set outline = null where id = :id"), {"id": course_id})
    assert (await author.client.get(f"/v1/courses/{course_id}/outline")).json() == kept


async def test_one_call_reorders_modules_and_lessons(author: Author) -> None:
    course_id = (await author.course())["id"]
    flour, water = await author.module(course_id, "Flour"), await author.module(course_id, "Water")
    a, b, c = [
        (await author.lesson(module, title))["id"] for module, title in ((flour, "a"), (flour, "b"), (water, "c"))
    ]
    assert await author.outline(course_id) == {"Flour": ["a", "b"], "Water": ["c"]}
    order = {"modules": [{"id": water, "lessons": [c, b]}, {"id": flour, "lessons": [a]}]}
    outline = await author.call("PUT", f"/courses/{course_id}/order", order, status=200)
    assert [module["id"] for module in outline["modules"]] == [water, flour]
    assert await author.outline(course_id) == {"Water": ["c", "b"], "Flour": ["a"]}
    assert (await author.call("GET", f"/lessons/{b}", status=200))["module_id"] == water
    await author.call("DELETE", f"/lessons/{c}", status=204)
    outline = await author.call("GET", f"/courses/{course_id}/outline", status=200)
    assert [(lesson["id"], lesson["position"]) for lesson in outline["modules"][0]["lessons"]] == [(b, 0)]
    await author.call("DELETE", f"/modules/{water}", status=204)
    outline = await author.call("GET", f"/courses/{course_id}/outline", status=200)
    assert [(module["id"], module["position"]) for module in outline["modules"]] == [(flour, 0)]


async def test_an_order_must_name_exactly_what_the_course_has(author: Author) -> None:
    course_id = (await author.course())["id"]
    flour, water = await author.module(course_id, "Flour"), await author.module(course_id, "Water")
    lesson = (await author.lesson(flour))["id"]
    foreign = str(uuid4())
    order = {"modules": [{"id": flour, "lessons": [lesson, lesson]}, {"id": foreign, "lessons": []}]}
    answer = await author.client.put(f"/v1/courses/{course_id}/order", json=order, headers=author.headers)
    assert problem(answer) == (
        422,
        "OrderMismatch",
        [
            ("modules.1.id", "unknown"),
            ("modules", "missing"),
            ("modules.0.lessons.0", "duplicate"),
            ("modules.0.lessons.1", "duplicate"),
        ],
    )
    assert f"The module {water} is missing." in [error["message"] for error in answer.json()["errors"]]
    assert await author.outline(course_id) == {"Flour": ["Milling"], "Water": []}


async def test_only_a_course_that_never_was_published_can_be_deleted(author: Author) -> None:
    course_id, _, _ = await author.published()
    await author.call("POST", f"/courses/{course_id}/unpublish", status=200)
    answer = await author.client.delete(f"/v1/courses/{course_id}", headers=author.headers)
    assert problem(answer) == (409, "CourseNotDeletable", [])
    draft = (await author.course())["id"]
    await author.lesson(await author.module(draft))
    await author.call("DELETE", f"/courses/{draft}", status=204)
    assert problem(await author.client.get(f"/v1/courses/{draft}", headers=author.headers))[:2] == (
        404,
        "CourseNotFound",
    )


async def test_my_courses_are_paged_newest_first(author: Author, make_user: MakeUser) -> None:
    await Author(author.client, await make_user("teacher")).course()
    ids = [(await author.course())["id"] for _ in range(3)]
    first = await author.call("GET", "/me/courses?limit=2", status=200)
    second = await author.call("GET", f"/me/courses?limit=2&cursor={first['next_cursor']}", status=200)
    assert [course["id"] for course in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


async def test_what_does_not_exist_is_not_found(author: Author) -> None:
    nobody = uuid4()
    for method, path, body, code in (
        ("GET", f"/courses/{nobody}", None, "CourseNotFound"),
        ("POST", f"/courses/{nobody}/publish", None, "CourseNotFound"),
        ("PATCH", f"/modules/{nobody}", {"title": "x"}, "ModuleNotFound"),
        ("GET", f"/lessons/{nobody}", None, "LessonNotFound"),
        ("DELETE", f"/lessons/{nobody}", None, "LessonNotFound"),
        ("GET", f"/uploads/{nobody}", None, "UploadNotFound"),
    ):
        answer = await author.client.request(method, f"/v1{path}", json=body, headers=author.headers)
        assert problem(answer) == (404, code, []), path
