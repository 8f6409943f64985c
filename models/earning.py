"""Who earned what of a sold order line, and how much of it has been taken back or is held by a dispute."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Identified, MinorUnits


class Earning(Identified, Base):
    """One recipient's share of one line, in minor units; what is left of it is `share - taken`.

    A creator's share becomes available at `release_at`.
    """

    __tablename__ = "earnings"

    order_line_id: Mapped[UUID] = mapped_column(ForeignKey("order_lines.id"))
    recipient_kind: Mapped[str]
    creator_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    currency: Mapped[str] = mapped_column(CHAR(3), ForeignKey("currencies.code"))
    share: Mapped[MinorUnits]
    taken: Mapped[MinorUnits] = mapped_column(server_default="0")
    held: Mapped[MinorUnits] = mapped_column(server_default="0")
    release_at: Mapped[datetime | None]
    released_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("recipient_kind in ('creator', 'platform', 'tax')", name="recipient_kind"),
        CheckConstraint(
            "(recipient_kind = 'creator') = (creator_id is not null) "
            "and (recipient_kind = 'creator') = (release_at is not null)",
            name="creator",
        ),
        CheckConstraint("0 <= taken and 0 <= held and taken + held <= share", name="left"),
        UniqueConstraint("order_line_id", "recipient_kind", "creator_id", postgresql_nulls_not_distinct=True),
        Index(
            "ix_earnings_release_at",
            "release_at",
            postgresql_where=text("release_at is not null and released_at is null"),
        ),
        Index("ix_earnings_creator_id", "creator_id", postgresql_where=text("creator_id is not null")),
    )
