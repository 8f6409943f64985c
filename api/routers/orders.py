"""Orders: placing, paying, canceling, and what happened to them."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Container, ReadTx, requires, whose
from api.idempotency import IdempotencyKey
from api.pagination import Page, Paging, cut_page
from api.schemas.orders import OrderCreate, OrderRead
from api.schemas.timeline import TimelineRead, timeline_read
from core import clock, failpoints
from core.ids import new_id
from domain.errors import ServiceUnavailable
from domain.identity import Permission, Principal
from domain.orders import OPEN, OrderClosed, OrderStatus
from models.order import Order
from services import orders, timeline

router = APIRouter(tags=["orders"])

Buyer = Annotated[Principal, requires(Permission.ORDER_PLACE)]
Reader = Annotated[Principal, requires(Permission.ORDER_READ)]

_PENDING: dict[int | str, dict[str, Any]] = {
    202: {
        "model": OrderRead,
        "description": "The order is kept and goes on by itself; read it again at `Location`",
        "headers": {"Location": {"schema": {"type": "string"}}},
    }
}


@router.post("/orders", status_code=201, responses=_PENDING)
async def place_order(
    body: OrderCreate, response: Response, container: Container, principal: Buyer, key: IdempotencyKey
) -> OrderRead:
    """Freezes the prices, holds a seat for each course and opens the payment page.

    The same `Idempotency-Key` answers with the same order; so does a second click on a basket that is still open.
    """
    now = clock.now()
    async with container.db.transaction() as session:
        order = await orders.place(
            session,
            principal.user_id,
            [item.course_id for item in body.items],
            idempotency_key=key,
            policy=container.settings.platform,
            now=now,
        )
    failpoints.hit("api.order_placed")
    response.headers["Location"] = f"/v1/orders/{order.id}"
    if order.status == OrderStatus.PENDING:
        try:
            await container.gateway.place_order(order.id, update_id=key)
        except ServiceUnavailable:
            response.status_code = 202
    async with container.db.read() as session:
        return await _read(session, await orders.get_own(session, order.id, principal.user_id))


@router.get("/orders/{order_id}")
async def read_order(order_id: UUID, session: ReadTx, principal: Reader) -> OrderRead:
    """One order; administrators see anyone's."""
    return await _read(session, await orders.get_own(session, order_id, whose(principal)))


@router.post("/orders/{order_id}/cancel")
async def cancel_order(order_id: UUID, container: Container, principal: Buyer) -> OrderRead:
    """Gives an unpaid order up and its seats back. Refused when the order has ended or its payment was faster."""
    async with container.db.read() as session:
        order = await orders.get_own(session, order_id, principal.user_id)
    if order.status == OrderStatus.CANCELED:
        async with container.db.read() as session:
            return await _read(session, order)
    if order.status not in OPEN:
        raise OrderClosed(f"The order is {order.status}.")
    await container.gateway.cancel_order(order_id, update_id=f"cancel-{new_id()}")
    async with container.db.read() as session:
        order = await orders.get_own(session, order_id, principal.user_id)
        if order.status not in OPEN and order.status != OrderStatus.CANCELED:
            raise OrderClosed(f"The order is {order.status}.")
        return await _read(session, order)


@router.get("/orders/{order_id}/timeline")
async def order_timeline(order_id: UUID, session: ReadTx, principal: Reader) -> TimelineRead:
    """Everything that happened to the order, why, and what was planned next."""
    await orders.get_own(session, order_id, whose(principal))
    staff = principal.can(Permission.PROCESS_READ)
    return timeline_read(await timeline.read(session, ("order", order_id), staff=staff))


@router.get("/me/orders")
async def my_orders(session: ReadTx, principal: Reader, paging: Paging) -> Page[OrderRead]:
    """My orders, newest first."""
    rows = await orders.page(session, principal.user_id, after=paging.after(datetime, UUID), limit=paging.limit)
    shown, cursor = cut_page(rows, paging.limit, lambda order: (order.created_at, order.id))
    return Page(items=[await _read(session, order) for order in shown], next_cursor=cursor)


async def _read(session: AsyncSession, order: Order) -> OrderRead:
    lines = await orders.lines_of(session, order.id)
    return OrderRead.of(order, lines=lines, checkout_url=await orders.checkout_url(session, order))
