"""What operators see of processes, and their word to one that is stuck."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core.db import Database
from core.ids import new_id
from core.settings import Settings
from domain.contracts.processes import Stuck
from domain.identity import Role
from services import processes, timeline
from tests.api.conftest import serving
from tests.api.counter import Counter, opened, shop_settings, without_temporal
from tests.support.accounts import Account
from tests.support.authoring import problem
from tests.support.scenes import add_order, add_stray_payment, add_user
from tests.support.stack import Servers
from tests.support.wait import until

PROCESSES = "/v1/admin/processes"
CHECKOUTS = "/v1/checkout/sessions"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def changed(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update={"temporal": settings.temporal.model_copy(update=values)})


@pytest.fixture(scope="module")
async def house(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A step counts as stuck after two seconds."""
    async with shop_settings(servers, tmp_path_factory.mktemp("house")) as fresh:
        yield changed(fresh, stuck_after=2.0)


@pytest.fixture(scope="module")
async def shop(house: Settings) -> AsyncIterator[Counter]:
    async with opened(house) as counter:
        yield counter


@pytest.fixture(scope="module")
async def admin(shop: Counter) -> Account:
    return await shop.account(Role.ADMIN)


@pytest.fixture(autouse=True)
async def _nothing_known(shop: Counter) -> None:
    """Each test ends the processes it starts: one that runs would make itself known again."""
    async with shop.db.transaction() as session:
        await session.execute(text("delete from processes"))


async def note(db: Database, process_id: str, subject_id: UUID, **facts: Any) -> None:
    async with db.transaction() as session:
        known: dict[str, Any] = {"state": "paying", "waiting_for": "payment", "now": NOW}
        await processes.note(session, process_id, "order", subject_id, **known | facts)


async def retry(shop: Counter, who: Account, process_id: str) -> Any:
    return await shop.client.post(f"{PROCESSES}/{process_id}/retry", headers=who.headers)


async def audited(shop: Counter, process_id: str) -> list[tuple[str, UUID, str]]:
    query = "select action, actor_id, outcome from process_actions where process_id = :id order by at"
    async with shop.db.read() as session:
        return [tuple(row) for row in await session.execute(text(query), {"id": process_id})]


async def test_only_administrators_see_processes(shop: Counter) -> None:
    process_id = f"order-{new_id()}"
    for who in (await shop.account(), await shop.account(Role.TEACHER)):
        listed = await shop.client.get(PROCESSES, headers=who.headers)
        assert problem(listed) == (403, "PermissionDenied", [])
        assert problem(await retry(shop, who, process_id)) == (403, "PermissionDenied", [])
    assert problem(await shop.client.get(PROCESSES)) == (401, "Unauthenticated", [])
    assert await audited(shop, process_id) == []


async def test_a_running_order_shows_what_it_waits_for(shop: Counter, admin: Account) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    [shown] = (await shop.get("/admin/processes", admin))["items"]
    poll = datetime.fromisoformat(order["expires_at"]) + timedelta(minutes=15)
    assert datetime.fromisoformat(shown.pop("next_at")) == poll
    assert shown == {
        "id": f"order-{order['id']}",
        "kind": "order",
        "subject_id": order["id"],
        "state": "paying",
        "waiting_for": "payment",
        "waiting_since": shown["waiting_since"],
        "next_step": "read Stripe",
        "last_error": None,
        "stuck_since": None,
        "updated_at": shown["updated_at"],
    }
    assert (await shop.get("/admin/processes", admin, stuck=True))["items"] == []
    await shop.pay(order, student)
    assert (await shop.get("/admin/processes", admin))["items"] == []


async def test_stuck_processes_can_be_listed_alone(shop: Counter, admin: Account) -> None:
    fine, ended, stuck = new_id(), new_id(), new_id()
    await note(shop.db, f"order-{fine}", fine)
    await note(shop.db, f"order-{ended}", ended, state="paid", waiting_for=None)
    await note(shop.db, f"order-{stuck}", stuck)
    failing = Stuck(
        process_id=f"order-{stuck}",
        kind="order",
        subject_id=stuck,
        step="book the payments",
        error="StripeMisuse",
        since=NOW,
        next_at=NOW + timedelta(minutes=5),
    )
    async with shop.db.transaction() as session:
        await processes.mark_stuck(session, failing)
    listed = (await shop.get("/admin/processes", admin))["items"]
    assert [each["subject_id"] for each in listed] == [str(stuck), str(fine)]
    [shown] = (await shop.get("/admin/processes", admin, stuck=True))["items"]
    assert shown == {
        "id": f"order-{stuck}",
        "kind": "order",
        "subject_id": str(stuck),
        "state": "paying",
        "waiting_for": "book the payments",
        "waiting_since": "2026-01-02T03:04:05Z",
        "next_step": "try again",
        "next_at": "2026-01-02T03:09:05Z",
        "last_error": "StripeMisuse",
        "stuck_since": "2026-01-02T03:04:05Z",
        "updated_at": shown["updated_at"],
    }
    async with shop.db.transaction() as session:
        await processes.mark_recovered(session, failing, NOW)
    assert (await shop.get("/admin/processes", admin, stuck=True))["items"] == []


async def test_a_process_that_sticks_after_its_end_is_listed(shop: Counter, admin: Account) -> None:
    """Late money starts an order's process anew, and it may fail before it has shown anything else."""
    late = new_id()
    await note(shop.db, f"order-{late}", late, state="expired", waiting_for=None)
    failing = Stuck(
        process_id=f"order-{late}",
        kind="order",
        subject_id=late,
        step="read the order's payments at Stripe",
        error="StripeTransient",
        since=NOW,
    )
    async with shop.db.transaction() as session:
        await processes.mark_stuck(session, failing)
    [shown] = (await shop.get("/admin/processes", admin, stuck=True))["items"]
    assert (shown["id"], shown["waiting_for"]) == (f"order-{late}", "read the order's payments at Stripe")


async def test_a_refund_that_sticks_is_told_on_its_orders_timeline(shop: Counter) -> None:
    """Its student is told, too, and by the order: a refund has no page."""
    async with shop.db.transaction() as session:
        order = await add_order(session, (await add_user(session)).id, granted=0, status="expired")
        _, refund = await add_stray_payment(session, order, 4900, "duplicate")
    failing = Stuck(
        process_id=f"refund-{refund.id}",
        kind="refund",
        subject_id=refund.id,
        step="give the money back",
        error="StripeRefused",
        since=NOW,
    )
    async with shop.db.transaction() as session:
        await processes.mark_stuck(session, failing)
        await processes.mark_recovered(session, failing, NOW)
    async with shop.db.read() as session:
        told = await timeline.read(session, ("order", order.id), staff=False)
    assert [(entry.kind, entry.details.get("step"), entry.next_step) for entry in told] == [
        ("process.stuck", "give the money back", "our staff decides"),
        ("process.recovered", None, None),
    ]


async def test_processes_are_paged_by_their_latest_change(shop: Counter, admin: Account) -> None:
    subjects = [new_id() for _ in range(5)]
    for subject in subjects:
        await note(shop.db, f"order-{subject}", subject)
    await note(shop.db, f"order-{subjects[0]}", subjects[0], state="paid")
    shown: list[str] = []
    cursor: dict[str, Any] = {}
    for size in (2, 2, 1):
        page = await shop.get("/admin/processes", admin, limit=2, **cursor)
        assert len(page["items"]) == size
        shown += [each["subject_id"] for each in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
    assert cursor == {"cursor": None}
    assert shown == [str(subjects[number]) for number in (0, 4, 3, 2, 1)]


async def test_an_operator_makes_a_stuck_order_go_on(shop: Counter, house: Settings, admin: Account) -> None:
    """Stripe fails until the order counts as stuck; Stripe recovers, and the next try is minutes away."""
    student, course = await shop.account(), await shop.course()
    await shop.sandbox.fault("POST", CHECKOUTS, "500_unstored", times=1000)
    async with serving(changed(house, rpc_timeout=2.0)) as (_, impatient):
        answer = await shop.place(student, course, client=impatient)
    order_id = answer.json()["id"]
    process_id = f"order-{order_id}"
    assert answer.status_code == 202

    async def stuck() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await shop.get("/admin/processes", admin, stuck=True))["items"]
        return found

    [shown] = await until(stuck, timeout=60, every=0.1)
    facts = ("id", "waiting_for", "last_error", "next_step")
    assert [shown[fact] for fact in facts] == [
        process_id, "open a payment page at Stripe", "StripeTransient", "try again",
    ]  # fmt: skip
    assert datetime.fromisoformat(shown["next_at"]) - datetime.fromisoformat(shown["stuck_since"]) >= timedelta(
        minutes=1
    )

    await shop.sandbox.http.delete("/_sandbox/faults")
    retried = await retry(shop, admin, process_id)
    assert (retried.status_code, retried.json()) == (
        200,
        {"process": process_id, "doing": "open a payment page at Stripe"},
    )
    await shop.arrives(student, order_id, "paying")
    assert await audited(shop, process_id) == [("retry", admin.user_id, "accepted")]
    assert await until(lambda: _unstuck(shop, admin), timeout=30)
    told = (await shop.get(f"/orders/{order_id}/timeline", student))["items"]
    assert {(entry["actor"], entry["kind"], entry["message"]) for entry in told} == {
        ("student", "order.placed", "You placed the order for 49.00 USD. Your seats are held."),
        (
            "system",
            "process.stuck",
            "A step keeps failing: open a payment page at Stripe. Our staff sees it.",
        ),
        ("admin", "process.retried", "Our staff asked for another try at once."),
        ("system", "process.recovered", "The failing step went through."),
        ("system", "checkout.opened", "The payment page is open."),
    }
    assert (await shop.cancel(student, order_id)).status_code == 200


async def _unstuck(shop: Counter, admin: Account) -> bool:
    return bool((await shop.get("/admin/processes", admin, stuck=True))["items"] == [])


async def test_a_process_that_waits_may_be_asked_to_look_again(shop: Counter, admin: Account) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    [before] = (await shop.get("/admin/processes", admin))["items"]
    answer = await retry(shop, admin, f"order-{order['id']}")
    assert answer.status_code == 200
    assert answer.json()["doing"].startswith("waiting for payment until ")

    async def looked() -> bool:
        [now] = (await shop.get("/admin/processes", admin))["items"]
        return bool(now["waiting_since"] > before["waiting_since"])

    await until(looked)
    assert (await shop.cancel(student, order["id"])).status_code == 200


async def test_a_process_that_has_ended_is_not_retried_but_the_try_is_audited(shop: Counter, admin: Account) -> None:
    student = await shop.account()
    order = await shop.order(student, await shop.course())
    assert (await shop.cancel(student, order["id"])).status_code == 200
    process_id = f"order-{order['id']}"
    assert problem(await retry(shop, admin, process_id)) == (409, "ProcessEnded", [])
    assert await audited(shop, process_id) == [("retry", admin.user_id, "ProcessEnded")]


async def test_a_retry_while_temporal_is_away_is_audited_too(shop: Counter, house: Settings, admin: Account) -> None:
    subject = new_id()
    process_id = f"order-{subject}"
    await note(shop.db, process_id, subject)
    async with serving(without_temporal(house)) as (_, elsewhere):
        answer = await elsewhere.post(f"{PROCESSES}/{process_id}/retry", headers=admin.headers)
    assert (problem(answer), answer.headers["Retry-After"]) == ((503, "ServiceUnavailable", []), "5")
    assert await audited(shop, process_id) == [("retry", admin.user_id, "ServiceUnavailable")]


async def test_unknown_processes_are_not_found(shop: Counter, admin: Account) -> None:
    process_id = f"order-{new_id()}"
    assert problem(await retry(shop, admin, process_id)) == (404, "ProcessNotFound", [])
    assert await audited(shop, process_id) == []
    malformed = problem(await retry(shop, admin, "order-1"))
    assert malformed == (422, "ValidationFailed", [("process_id", "string_pattern_mismatch")])
