"""Finding published courses."""

import math
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from api.deps import Container, public
from api.pagination import decode_cursor, encode_cursor
from api.schemas.search import CourseSearch, CourseSearchRead
from domain.errors import FieldError, Invalid, InvalidCursor
from search.queries import CourseQuery, Found, search_courses

router = APIRouter(prefix="/search", tags=["search"])


class InvalidPriceRange(Invalid):
    title = "The price range is not valid"


@router.get("/courses", response_model=CourseSearchRead, dependencies=[public])
async def courses(container: Container, wanted: Annotated[CourseSearch, Query()]) -> Response:
    """Published courses by words, facets and price, with what each further choice would find."""
    query = _query(wanted)
    after = _after(query, wanted.cursor)
    key = f"{query.fingerprint}:{query.limit}:{wanted.cursor or ''}"
    body = container.searches.get(key)
    if body is None:
        body = _render(query, await search_courses(container.search, query, after))
        container.searches.put(key, body)
    return Response(body, media_type="application/json")


def _render(query: CourseQuery, found: Found) -> bytes:
    """Straight to bytes: what was found has the schema's shape already, and a test holds it to that."""
    return orjson.dumps(
        {
            "items": found.items,
            "next_cursor": encode_cursor(query.fingerprint, *found.next_key) if found.next_key else None,
            "total": found.total,
            "facets": found.facets,
        }
    )


def _query(wanted: CourseSearch) -> CourseQuery:
    if wanted.price_min is not None and wanted.price_max is not None and wanted.price_min > wanted.price_max:
        errors = [FieldError("price_max", "must not be less than price_min", "price_range")]
        raise InvalidPriceRange("The highest price is below the lowest.", errors=errors)
    return CourseQuery(
        q=wanted.q,
        categories=tuple(wanted.category),
        levels=tuple(wanted.level),
        languages=tuple(wanted.language),
        price_min=wanted.price_min,
        price_max=wanted.price_max,
        sort=wanted.sort,
        limit=wanted.limit,
    )


def _after(query: CourseQuery, cursor: str | None) -> list[object] | None:
    """The sort key to continue after; raises `InvalidCursor` for another search's cursor."""
    if cursor is None:
        return None
    fingerprint, *key = decode_cursor(cursor, str, query.order[2], str)
    if fingerprint != query.fingerprint or (isinstance(key[0], float) and not math.isfinite(key[0])):
        errors = [FieldError("cursor", "belongs to another search", "invalid_cursor")]
        raise InvalidCursor("Use the `next_cursor` of the page before with the same search.", errors=errors)
    return key
