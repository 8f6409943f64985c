"""What administrators see of an order's ledger."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2

from core.db import Database
from core.ids import new_id
from domain import ledger as postings
from domain.identity import Role
from domain.pricing import split
from models.order import Order
from services import ledger
from tests.api.conftest import MakeAccount

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
AT = "2026-01-02T03:04:05Z"


async def order(db: Database, student_id: UUID, *, gross: int, creator_id: UUID) -> UUID:
    """An order, and its sale and settlement in the ledger unless it is free."""
    placed = Order(
        id=new_id(),
        student_id=student_id,
        currency="usd",
        list_total=gross,
        gross=gross,
        basket=str(uuid4()),
        idempotency_key=str(uuid4()),
        expires_at=NOW + timedelta(hours=1),
    )
    async with db.transaction() as session:
        session.add(placed)
        if gross:
            shares = split(gross, platform_bps=3000, creators={creator_id: 1})
            sale = postings.sale(order_id=placed.id, gross=gross, currency="usd", shares=shares)
            settle = postings.settle(
                charge=f"ch_{placed.id.hex}",
                order_id=placed.id,
                gross=gross,
                fee=153,
                net=gross - 153,
                currency="usd",
                stripe_balance_txn=f"txn_{placed.id.hex}",
            )
            for posting in (sale, settle):
                await ledger.post(session, posting, actor="system", occurred_at=NOW, workflow_id=f"order-{placed.id}")
    return placed.id


async def test_an_administrator_reads_the_postings_of_an_order(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student, teacher, admin = await make_account(), await make_account(Role.TEACHER), await make_account(Role.ADMIN)
    order_id = await order(db, student.user_id, gross=4249, creator_id=teacher.user_id)
    answer = await client.get(f"/v1/admin/orders/{order_id}/ledger", headers=admin.headers)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["order_id"], body["sums"]) == (str(order_id), {"usd": 0})
    sale, settle = body["transactions"]
    assert {key: sale[key] for key in ("posting_key", "kind", "currency", "occurred_at", "actor", "workflow_id")} == {
        "posting_key": f"sale:{order_id}",
        "kind": "sale",
        "currency": "usd",
        "occurred_at": AT,
        "actor": "system",
        "workflow_id": f"order-{order_id}",
    }
    assert (settle["kind"], settle["stripe_balance_txn"]) == ("settle", f"txn_{order_id.hex}")
    assert sale["entries"] == [
        _entry("stripe_receivable", 4249),
        _entry("creator_pending", -2974) | {"owner_id": str(teacher.user_id), "balance_after": -2974},
        _entry("platform_fees", -1275),
    ]
    assert settle["entries"] == [
        _entry("stripe_balance", 4096),
        _entry("processor_fees", 153),
        _entry("stripe_receivable", -4249),
    ]


def _entry(account: str, amount: int) -> dict[str, object]:
    return {"account": account, "owner_id": None, "currency": "usd", "amount": amount, "balance_after": None}


async def test_a_free_order_has_no_postings(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student, admin = await make_account(), await make_account(Role.ADMIN)
    order_id = await order(db, student.user_id, gross=0, creator_id=student.user_id)
    answer = await client.get(f"/v1/admin/orders/{order_id}/ledger", headers=admin.headers)
    assert (answer.status_code, answer.json()) == (200, {"order_id": str(order_id), "transactions": [], "sums": {}})


async def test_an_unknown_order_is_not_found(client: httpx2.AsyncClient, make_account: MakeAccount) -> None:
    admin = await make_account(Role.ADMIN)
    answer = await client.get(f"/v1/admin/orders/{uuid4()}/ledger", headers=admin.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "OrderNotFound")


async def test_a_student_does_not_see_the_ledger_not_even_of_an_own_order(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    student = await make_account()
    order_id = await order(db, student.user_id, gross=1000, creator_id=student.user_id)
    answer = await client.get(f"/v1/admin/orders/{order_id}/ledger", headers=student.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied")
