"""Pages by keyset: a page goes on after the sort key of the last row shown, whatever came or went meanwhile."""

from typing import Any, TypeVarTuple

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

Ts = TypeVarTuple("Ts")


def keyset(
    query: Select[*Ts],
    *key: InstrumentedAttribute[Any],
    after: tuple[Any, ...] | None,
    limit: int,
    newest_first: bool = True,
) -> Select[*Ts]:
    """The rows after the one whose unique `key` is `after`; one more than `limit` tells of a next page."""
    if after is not None:
        query = query.where(tuple_(*key) < after if newest_first else tuple_(*key) > after)
    order = [column.desc() if newest_first else column.asc() for column in key]
    return query.order_by(*order).limit(limit + 1)
