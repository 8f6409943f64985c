"""Earnings: what each recipient is due of a sold order line, written once at sale."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.pricing import RecipientKind, Share

_RECORD = text(
    """
    insert into earnings (order_line_id, recipient_kind, creator_id, currency, share, release_at)
    values (:order_line_id, :recipient_kind, :creator_id, :currency, :share, :release_at)
    on conflict do nothing
    """
)
_DELAY = text(
    """
    update earnings set release_at = :available_on
     where order_line_id in (select id from order_lines where order_id = :order_id) and release_at < :available_on
    """
)


async def record_sale(
    session: AsyncSession, order_line_id: UUID, shares: Iterable[Share], *, currency: str, release_at: datetime
) -> None:
    """Writes the shares of a sold line; doing it again changes nothing. Creators can be paid from `release_at`."""
    rows = [
        {
            "order_line_id": order_line_id,
            "recipient_kind": share.recipient.value,
            "creator_id": share.creator_id,
            "currency": currency,
            "share": share.amount,
            "release_at": release_at if share.recipient is RecipientKind.CREATOR else None,
        }
        for share in shares
    ]
    if rows:
        await session.execute(_RECORD, rows)


async def delay_release(session: AsyncSession, order_id: UUID, *, available_on: datetime) -> None:
    """Nothing of the order is released before Stripe makes its money available; never brings a release forward."""
    await session.execute(_DELAY, {"order_id": order_id, "available_on": available_on})
