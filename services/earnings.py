"""Earnings: what each recipient is due of a sold order line, written once at sale."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as insert_or_skip
from sqlalchemy.ext.asyncio import AsyncSession

from domain.pricing import RecipientKind, Share
from models.earning import Earning
from models.order import OrderLine


async def record_sale(
    session: AsyncSession, order_line_id: UUID, shares: Iterable[Share], *, currency: str, release_at: datetime
) -> None:
    """Writes the shares of a sold line; doing it again changes nothing. Creators can be paid from `release_at`."""
    rows = [
        {
            "order_line_id": order_line_id,
            "recipient_kind": share.recipient,
            "creator_id": share.creator_id,
            "currency": currency,
            "share": share.amount,
            "release_at": release_at if share.recipient is RecipientKind.CREATOR else None,
        }
        for share in shares
    ]
    if rows:
        await session.execute(insert_or_skip(Earning).values(rows).on_conflict_do_nothing())


async def delay_release(session: AsyncSession, order_id: UUID, *, available_on: datetime) -> None:
    """Nothing of the order is released before Stripe makes its money available; never brings a release forward."""
    lines = select(OrderLine.id).where(OrderLine.order_id == order_id)
    await session.execute(
        update(Earning)
        .where(Earning.order_line_id.in_(lines), Earning.release_at < available_on)
        .values(release_at=available_on)
        .execution_options(synchronize_session=False)
    )
