from uuid import UUID

import httpx2
from sqlalchemy import insert

from core import clock
from core.db import Database
from core.ids import new_id
from domain.identity import Role
from models.notification import Notification
from tests.api.conftest import MakeAccount
from tests.support.accounts import Account


async def _tell(db: Database, account: Account, *titles: str, in_app: bool = True) -> list[str]:
    """Notifications of these titles, oldest first; their ids."""
    ids: list[UUID] = []
    async with db.transaction() as session:
        for title in titles:
            ids.append(new_id())
            await session.execute(
                insert(Notification).values(
                    id=ids[-1],
                    user_id=account.user_id,
                    event_id=new_id(),
                    kind="order.paid",
                    subject="order/1",
                    title=title,
                    body="Thank you.",
                    data={"rows": [["Total", "49.00 USD"]]},
                    in_app=in_app,
                )
            )
    return [str(notification_id) for notification_id in ids]


async def test_lists_newest_first_and_only_ones_own(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    account, other = await make_account(), await make_account()
    first, second = await _tell(db, account, "First", "Second")
    await _tell(db, other, "Other")
    await _tell(db, account, "Mail only", in_app=False)
    answer = await client.get("/v1/me/notifications", headers=account.headers)
    assert answer.status_code == 200
    body = answer.json()
    created = body["items"][0].pop("created_at")
    assert body["items"][0] == {
        "id": second,
        "kind": "order.paid",
        "subject": "order/1",
        "title": "Second",
        "body": "Thank you.",
        "data": {"rows": [["Total", "49.00 USD"]]},
        "read_at": None,
    }
    assert created <= clock.now().isoformat()
    assert [item["id"] for item in body["items"]] == [second, first]
    assert (body["next_cursor"], body["unread"]) == (None, 2)


async def test_pages_follow_the_cursor(client: httpx2.AsyncClient, db: Database, make_account: MakeAccount) -> None:
    account = await make_account()
    ids = await _tell(db, account, *"abcde")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/me/notifications", params=params, headers=account.headers)).json()
        seen += [item["id"] for item in page["items"]]
        assert len(page["items"]) <= 2
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == ids[::-1]


async def test_reading_one_counts_the_first_time(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    account = await make_account()
    first, second = await _tell(db, account, "First", "Second")
    answers = [await client.post(f"/v1/me/notifications/{first}/read", headers=account.headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["read_at"] is not None
    assert answers[1].json() == answers[0].json()
    unread = await client.get("/v1/me/notifications", params={"unread": "true"}, headers=account.headers)
    assert [item["id"] for item in unread.json()["items"]] == [second]
    assert unread.json()["unread"] == 1


async def test_read_all_reads_only_ones_own(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    account, other = await make_account(), await make_account()
    await _tell(db, account, "First", "Second")
    await _tell(db, other, "Other")
    answers = [await client.post("/v1/me/notifications/read-all", headers=account.headers) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"read": 2}, {"read": 0}]
    theirs = await client.get("/v1/me/notifications", headers=other.headers)
    assert theirs.json()["unread"] == 1


async def test_somebody_elses_is_not_found(client: httpx2.AsyncClient, db: Database, make_account: MakeAccount) -> None:
    account, other = await make_account(), await make_account()
    (notification_id,) = await _tell(db, account, "Mine")
    for unreachable in (notification_id, str(new_id()), *await _tell(db, other, "Mail only", in_app=False)):
        answer = await client.post(f"/v1/me/notifications/{unreachable}/read", headers=other.headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "NotificationNotFound")


async def test_refuses_strangers_and_bad_cursors(client: httpx2.AsyncClient, make_account: MakeAccount) -> None:
    assert (await client.get("/v1/me/notifications")).status_code == 401
    account = await make_account(Role.TEACHER)
    answer = await client.get("/v1/me/notifications", params={"cursor": "nonsense"}, headers=account.headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "InvalidCursor")
