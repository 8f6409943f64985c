"""What administrators see of an order's ledger."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx2

from core.db import Database
from core.ids import new_id
from domain.identity import Role
from models.order import Order
from tests.api.conftest import MakeAccount
from tests.support.sold import sell

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AT = "2026-01-02T03:04:05Z"


async def test_an_administrator_reads_the_postings_of_an_order(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student, teacher, admin = await make_account(), await make_account(Role.TEACHER), await make_account(Role.ADMIN)
    async with db.transaction() as session:
        payment = await sell(session, student_id=student.user_id, teacher_id=teacher.user_id, now=NOW)
    order_id, charge = payment.order_id, payment.stripe_charge
    answer = await client.get(f"/v1/admin/orders/{order_id}/ledger", headers=admin.headers)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["order_id"], body["sums"]) == (str(order_id), {"usd": 0})
    sale, parked = body["transactions"]
    told = ("posting_key", "kind", "currency", "occurred_at", "actor", "workflow_id", "stripe_object", "memo")
    common = {"currency": "usd", "occurred_at": AT, "actor": "system", "workflow_id": f"order-{order_id}"}
    assert {key: sale[key] for key in told} == common | {
        "posting_key": f"sale:{order_id}",
        "kind": "sale",
        "stripe_object": None,
        "memo": {},
    }
    assert {key: parked[key] for key in told} == common | {
        "posting_key": f"unapplied:{charge}",
        "kind": "unapplied",
        "stripe_object": charge,
        "memo": {"reason": "amount_mismatch"},
    }
    assert sale["entries"] == [
        _entry("stripe_receivable", 4249),
        _entry("creator_pending", -2974) | {"owner_id": str(teacher.user_id), "balance_after": -2974},
        _entry("platform_fees", -1275),
    ]
    assert parked["entries"] == [_entry("stripe_receivable", 1000), _entry("unapplied_payments", -1000)]


def _entry(account: str, amount: int) -> dict[str, object]:
    return {"account": account, "owner_id": None, "currency": "usd", "amount": amount, "balance_after": None}


async def test_an_order_without_money_has_no_postings(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student, admin = await make_account(), await make_account(Role.ADMIN)
    order = Order(
        id=new_id(),
        student_id=student.user_id,
        currency="usd",
        list_total=0,
        gross=0,
        basket=str(uuid4()),
        idempotency_key=str(uuid4()),
        expires_at=NOW,
    )
    async with db.transaction() as session:
        session.add(order)
    answer = await client.get(f"/v1/admin/orders/{order.id}/ledger", headers=admin.headers)
    assert (answer.status_code, answer.json()) == (200, {"order_id": str(order.id), "transactions": [], "sums": {}})


async def test_an_unknown_order_is_not_found(client: httpx2.AsyncClient, make_account: MakeAccount) -> None:
    admin = await make_account(Role.ADMIN)
    answer = await client.get(f"/v1/admin/orders/{uuid4()}/ledger", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "OrderNotFound")


async def test_a_student_does_not_see_the_ledger_not_even_of_an_own_order(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student, teacher = await make_account(), await make_account(Role.TEACHER)
    async with db.transaction() as session:
        payment = await sell(session, student_id=student.user_id, teacher_id=teacher.user_id, now=NOW)
    answer = await client.get(f"/v1/admin/orders/{payment.order_id}/ledger", headers=student.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied")
