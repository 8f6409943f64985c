"""Keyset pagination: an opaque cursor holds the sort key of the last row shown."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel

from domain.errors import FieldError, InvalidCursor

T = TypeVar("T")
R = TypeVar("R")

MAX_LIMIT = 100
DEFAULT_LIMIT = 20

_PARSERS: dict[type, Callable[[Any], Any]] = {
    UUID: UUID,
    datetime: datetime.fromisoformat,
    str: str,
    int: int,
    float: float,
}


class Page(BaseModel, Generic[T]):
    """`next_cursor` is null on the last page."""

    items: list[T]
    next_cursor: str | None


class PageQuery:
    """The query parameters of a list: `cursor` from the page before, `limit` 1 to 100."""

    def __init__(
        self,
        cursor: Annotated[str | None, Query(max_length=512, description="`next_cursor` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    ) -> None:
        self.cursor = cursor
        self.limit = limit

    def after(self, *kinds: type) -> tuple[Any, ...] | None:
        """The sort key to continue after, its parts parsed as `kinds`; None on the first page."""
        return None if self.cursor is None else decode_cursor(self.cursor, *kinds)


Paging = Annotated[PageQuery, Depends()]


def encode_cursor(*key: UUID | datetime | str | int | float) -> str:
    """An opaque, URL-safe cursor for a row's sort key."""
    parts = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    text = json.dumps(parts, default=str, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The sort key in `cursor`; raises `InvalidCursor` unless it has exactly parts of these `kinds`."""
    try:
        parts = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(parts, list) or len(parts) != len(kinds):
            raise ValueError("wrong number of parts")
        return tuple(_parse(kind, part) for kind, part in zip(kinds, parts, strict=True))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidCursor(
            "Use the `next_cursor` of the page before, unchanged.",
            errors=[FieldError("cursor", "not a cursor of this list", "invalid_cursor")],
        ) from None


def _parse(kind: type, part: Any) -> Any:
    numeric = kind in (int, float)
    if isinstance(part, bool) or isinstance(part, str) == numeric:
        raise ValueError("wrong type")
    value = _PARSERS[kind](part)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("not storable")
        return value.astimezone(UTC)
    if isinstance(value, str) and b"\x00" in value.encode():
        raise ValueError("not storable")
    if kind is int and not -(2**63) <= value < 2**63:
        raise ValueError("out of range")
    return value


def cut_page(
    rows: Sequence[R], limit: int, key: Callable[[R], tuple[UUID | datetime | str | int | float, ...]]
) -> tuple[Sequence[R], str | None]:
    """Splits `limit + 1` fetched rows into the page and the cursor after it (None when there is no further row)."""
    if len(rows) <= limit:
        return rows, None
    shown = rows[:limit]
    return shown, encode_cursor(*key(shown[-1]))
