from uuid import uuid4

import httpx2

from core.db import Database
from core.settings import Settings
from domain.identity import ROLE_PERMISSIONS, Role
from tests.api.conftest import MakeAccount, MakeUser, serving
from tests.api.events import events_of


async def test_me_shows_the_account_its_roles_and_permissions(
    client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    account = await make_account()
    answer = await client.get("/v1/me", headers=account.headers)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": str(account.user_id),
        "email": account.email,
        "name": "Ada Lovelace",
        "roles": ["student"],
        "permissions": sorted(ROLE_PERMISSIONS[Role.STUDENT]),
        "email_verified": True,
    }


async def test_teaching_is_granted_at_once_and_works_at_the_next_request(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    account = await make_account()
    assert (await client.get("/v1/me", headers=account.headers)).json()["roles"] == ["student"]
    for _ in range(2):
        answer = await client.post("/v1/me/teacher", headers=account.headers)
        assert (answer.status_code, answer.json()) == (200, {"status": "granted"})
    me = (await client.get("/v1/me", headers=account.headers)).json()
    assert me["roles"] == ["student", "teacher"]
    assert "course.author" in me["permissions"]
    assert await events_of(db, account.user_id) == ["teacher.granted.v1"]


async def test_a_teacher_without_the_student_role_may_not_ask_to_teach(
    client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    account = await make_account(Role.TEACHER)
    answer = await client.post("/v1/me/teacher", headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied")


async def test_under_review_an_administrator_decides(
    settings: Settings, db: Database, make_account: MakeAccount, make_user: MakeUser
) -> None:
    reviewing = settings.model_copy(update={"platform": settings.platform.model_copy(update={"teacher_review": True})})
    admin, rejected, approved = await make_user("admin"), await make_account(), await make_account()
    async with serving(reviewing) as (_, client):
        for account in (rejected, approved, approved):
            answer = await client.post("/v1/me/teacher", headers=account.headers)
            assert (answer.status_code, answer.json()) == (202, {"status": "pending"})
        page = (await client.get("/v1/admin/teacher-requests?limit=100", headers=admin)).json()
        ours = {item["user_id"]: item for item in page["items"]}
        assert ours[str(approved.user_id)]["email"] == approved.email
        assert ours[str(approved.user_id)]["status"] == "pending"

        for account, verb, outcome in ((approved, "approve", "approved"), (rejected, "reject", "rejected")):
            path = f"/v1/admin/teacher-requests/{ours[str(account.user_id)]['id']}/{verb}"
            answer = await client.post(path, headers=admin)
            assert (answer.status_code, answer.json()["status"]) == (200, outcome)
            again = await client.post(path, headers=admin)
            assert (again.status_code, again.json()["code"]) == (409, "AlreadyDecided")

        assert (await client.get("/v1/me", headers=approved.headers)).json()["roles"] == ["student", "teacher"]
        assert (await client.get("/v1/me", headers=rejected.headers)).json()["roles"] == ["student"]
        assert await events_of(db, approved.user_id) == ["teacher.requested.v1", "teacher.granted.v1"]
        assert await events_of(db, rejected.user_id) == ["teacher.requested.v1", "teacher.rejected.v1"]
        again = await client.post("/v1/me/teacher", headers=rejected.headers)
        assert (again.status_code, again.json()) == (202, {"status": "pending"})


async def test_requests_to_teach_are_paged(settings: Settings, make_account: MakeAccount, make_user: MakeUser) -> None:
    reviewing = settings.model_copy(update={"platform": settings.platform.model_copy(update={"teacher_review": True})})
    admin = await make_user("admin")
    async with serving(reviewing) as (_, client):
        accounts = [await make_account() for _ in range(3)]
        for account in accounts:
            await client.post("/v1/me/teacher", headers=account.headers)
        seen: list[str] = []
        path: str | None = "/v1/admin/teacher-requests?limit=2"
        while path is not None:
            page = (await client.get(path, headers=admin)).json()
            assert len(page["items"]) <= 2
            seen += [item["user_id"] for item in page["items"]]
            cursor = page["next_cursor"]
            path = f"/v1/admin/teacher-requests?limit=2&cursor={cursor}" if cursor else None
    assert seen[-3:] == [str(account.user_id) for account in accounts]
    assert len(seen) == len(set(seen))


async def test_only_administrators_see_and_decide_requests_to_teach(
    client: httpx2.AsyncClient, make_user: MakeUser
) -> None:
    for role in ("student", "teacher"):
        headers = await make_user(role)
        for method, path in (("GET", ""), ("POST", f"/{uuid4()}/approve"), ("POST", f"/{uuid4()}/reject")):
            answer = await client.request(method, f"/v1/admin/teacher-requests{path}", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied")


async def test_an_unknown_request_to_teach_is_not_found(client: httpx2.AsyncClient, make_user: MakeUser) -> None:
    answer = await client.post(f"/v1/admin/teacher-requests/{uuid4()}/approve", headers=await make_user("admin"))
    assert (answer.status_code, answer.json()["code"]) == (404, "NotFound")
