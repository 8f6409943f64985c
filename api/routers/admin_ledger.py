"""What the ledger holds of an order."""

from collections import Counter
from uuid import UUID

from fastapi import APIRouter

from api.deps import ReadTx, requires
from api.schemas.admin_ledger import OrderLedgerRead, TransactionRead
from domain.identity import Permission
from services import ledger, orders

router = APIRouter(prefix="/admin/orders", tags=["admin"])


@router.get("/{order_id}/ledger", dependencies=[requires(Permission.FINANCE_READ)])
async def order_ledger(order_id: UUID, session: ReadTx) -> OrderLedgerRead:
    """The order's postings with their lines. A free order has none."""
    order = await orders.get_own(session, order_id, None)
    booked = await ledger.entries_of_order(session, order.id)
    sums: Counter[str] = Counter()
    for _, entries in booked:
        for entry in entries:
            sums[entry.currency] += entry.amount
    return OrderLedgerRead(
        order_id=order.id,
        transactions=[TransactionRead.of(transaction, entries=entries) for transaction, entries in booked],
        sums=dict(sums),
    )
