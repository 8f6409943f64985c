from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pagination import cut_page, decode_cursor, encode_cursor
from domain.errors import InvalidCursor

_VALUES = {
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    int: st.integers(-(2**63), 2**63 - 1),
    str: st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=50),
}
_KINDS = st.lists(st.sampled_from(list(_VALUES)), min_size=1, max_size=4)


@given(st.data())
def test_a_cursor_brings_its_key_back(data: st.DataObject) -> None:
    kinds = data.draw(_KINDS)
    key: tuple[Any, ...] = tuple(data.draw(_VALUES[kind]) for kind in kinds)
    cursor = encode_cursor(*key)
    assert decode_cursor(cursor, *kinds) == key
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#%")


@given(st.one_of(st.text(max_size=60), st.binary(max_size=40).map(lambda raw: encode_cursor(raw.hex()))), _KINDS)
def test_anything_else_is_refused_and_never_breaks(cursor: str, kinds: list[type]) -> None:
    try:
        key = decode_cursor(cursor, *kinds)
    except InvalidCursor:
        return
    assert [type(part) for part in key] == kinds


@pytest.mark.parametrize(
    ("key", "kinds"),
    [
        ((1,), (str,)),
        (("1",), (int,)),
        ((1, 2), (int,)),
        ((2**63,), (int,)),
        (("2026-01-01T00:00:00",), (datetime,)),
        (("0001-01-01T00:00:00+23:59",), (datetime,)),
        (("9999-12-31T23:59:59-23:59",), (datetime,)),
        (("a\x00b",), (str,)),
        (("\ud800",), (str,)),
        (("nope",), (UUID,)),
    ],
)
def test_a_cursor_of_another_list_is_refused(key: tuple[Any, ...], kinds: tuple[type, ...]) -> None:
    with pytest.raises(InvalidCursor) as refused:
        decode_cursor(encode_cursor(*key), *kinds)
    assert [error.field for error in refused.value.errors] == ["cursor"]


@pytest.mark.parametrize(("rows", "shown", "more"), [(0, 0, False), (2, 2, False), (3, 3, False), (4, 3, True)])
def test_one_row_more_than_the_limit_tells_of_a_next_page(rows: int, shown: int, *, more: bool) -> None:
    page, cursor = cut_page(list(range(rows)), 3, lambda row: (row,))
    assert page == list(range(shown))
    assert cursor == (encode_cursor(shown - 1) if more else None)
