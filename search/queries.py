"""Searching published courses: what is asked of OpenSearch and what its answer means.

Everything a person narrows by (a *facet*) is applied after counting, so that each facet counts what its other values
would give: with `level=beginner` chosen, the levels still show how many advanced courses there are.
"""

import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import orjson

from domain.courses import Category, Level
from domain.errors import FieldError, Invalid, InvalidCursor
from search.client import IndexMissing, QueryRefused, SearchClient
from search.documents import MARK_END, MARK_START
from search.indices import read_alias
from search.mappings import EVERY_COURSE

FACETS: Final = ("category", "level", "language", "price")
MAX_WORDS: Final = 12
"""Words of a query that count; each costs a walk through the dictionary."""

_FACET_SIZE = 100
# People rarely mistype the first letter, and without it half the dictionary is close to a short word.
_FUZZY: Final = {"operator": "and", "fuzziness": "AUTO", "prefix_length": 1, "max_expansions": 25}
# Only what is short: marking words in whole descriptions costs more than finding the courses.
_HIGHLIGHT: Final = {
    "pre_tags": [MARK_START],
    "post_tags": [MARK_END],
    "require_field_match": False,
    "number_of_fragments": 0,
    "fields": {"title": {}, "summary": {}},
}


class Sort(StrEnum):
    """`relevance` without words to look for is `newest`."""

    RELEVANCE = "relevance"
    NEWEST = "newest"
    PRICE_ASC = "price_asc"
    PRICE_DESC = "price_desc"
    TITLE = "title"


_SORT_FIELDS: Final[dict[Sort, tuple[str, str, type]]] = {
    Sort.RELEVANCE: ("_score", "desc", float),
    Sort.NEWEST: ("published_at", "desc", int),
    Sort.PRICE_ASC: ("price_amount", "asc", int),
    Sort.PRICE_DESC: ("price_amount", "desc", int),
    Sort.TITLE: ("title_sort", "asc", str),
}


class QueryNotUnderstood(Invalid):
    """The words cannot be searched for, e.g. because they are too many."""

    title = "The query cannot be run"


@dataclass(frozen=True, slots=True)
class CourseQuery:
    """Several values of one facet mean any of them. Prices are minor units of whatever currency a course has."""

    q: str = ""
    categories: tuple[Category, ...] = ()
    levels: tuple[Level, ...] = ()
    languages: tuple[str, ...] = ()
    price_min: int | None = None
    price_max: int | None = None
    sort: Sort = Sort.RELEVANCE
    limit: int = 20

    @property
    def words(self) -> list[str]:
        """What counts of `q`: a sign by itself finds nothing, so it does only where there are no words."""
        words = self.q.split()
        return ([word for word in words if any(map(str.isalnum, word))] or words)[:MAX_WORDS]

    @property
    def order(self) -> tuple[str, str, type]:
        """Field, direction and Python type of what the results are sorted by (then by id)."""
        return _SORT_FIELDS[Sort.NEWEST if self.sort is Sort.RELEVANCE and not self.words else self.sort]

    @property
    def fingerprint(self) -> str:
        """Tells whether a cursor belongs to this query; the page size may change between pages."""
        asked = (
            self.words,
            self.categories,
            self.levels,
            self.languages,
            self.price_min,
            self.price_max,
            self.order[:2],
        )
        return hashlib.blake2b(orjson.dumps(asked), digest_size=12).hexdigest()


def search_body(query: CourseQuery, after: Sequence[Any] | None = None) -> dict[str, Any]:
    """The request: one hit more than asked for shows whether there is a next page."""
    field, direction, _ = query.order
    filters = _filters(query)
    body: dict[str, Any] = {
        "query": _words_query(query.words) if query.words else {"bool": {"filter": EVERY_COURSE}},
        "aggs": {facet: _facet(facet, filters) for facet in FACETS},
        "sort": [{field: direction}, {"id": "asc"}],
        "size": query.limit + 1,
        "track_total_hits": True,
    }
    if filters:
        body["post_filter"] = {"bool": {"filter": list(filters.values())}}
    if query.words:
        body["highlight"] = {**_HIGHLIGHT, "highlight_query": {"bool": {"must": body["query"]["bool"]["must"]}}}
    if after is not None:
        body["search_after"] = after
    return body


def _words_query(words: Sequence[str]) -> dict[str, Any]:
    """Every word must occur, with typing errors forgiven; the last one may still be unfinished.

    Exact words, and words in more telling fields, weigh more.
    """
    whole, last = " ".join(words), words[-1]
    must: list[dict[str, Any]] = [
        {
            "bool": {
                "should": [
                    {"match": {"text": {"query": last, **_FUZZY}}},
                    {"match_bool_prefix": {"text": {"query": last, "operator": "and"}}},
                ]
            }
        }
    ]
    if len(words) > 1:
        must.append({"match": {"text": {"query": " ".join(words[:-1]), **_FUZZY}}})
    should = [
        {"multi_match": {"query": whole, "fields": ["title^6", "tags.text^3", "summary^2", "description"]}},
        {"match_phrase_prefix": {"title": {"query": whole, "boost": 4}}},
    ]
    return {"bool": {"must": must, "should": should}}


def _filters(query: CourseQuery) -> dict[str, dict[str, Any]]:
    """What narrows the results, by facet."""
    filters: dict[str, dict[str, Any]] = {
        facet: {"terms": {facet: values}}
        for facet, values in (("category", query.categories), ("level", query.levels), ("language", query.languages))
        if values
    }
    bounds = {"gte": query.price_min, "lte": query.price_max}
    price = {operator: value for operator, value in bounds.items() if value is not None}
    if price:
        filters["price"] = {"range": {"price_amount": price}}
    return filters


def _facet(facet: str, filters: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    counts = {"terms": {"field": facet, "size": _FACET_SIZE}}
    others = [clause for name, clause in filters.items() if name != facet]
    return {"filter": {"bool": {"filter": others}}, "aggs": {"values": counts}} if others else counts


@dataclass(frozen=True, slots=True)
class Found:
    """A page of results. `next_key` is the sort key of its last item, None on the last page."""

    items: list[dict[str, Any]]
    total: int
    facets: dict[str, list[dict[str, Any]]]
    next_key: list[Any] | None


async def search_courses(client: SearchClient, query: CourseQuery, after: Sequence[Any] | None = None) -> Found:
    """Runs the query. `after` is the `next_key` of the page before.

    Raises `SearchUnavailable`, and `QueryNotUnderstood` or `InvalidCursor` for what OpenSearch refuses.
    """
    path = f"/{read_alias(client.settings)}/_search"
    body = orjson.dumps(search_body(query, after))
    try:
        try:
            answer = await client.request("POST", path, body)
        except IndexMissing:
            # A rebuild replaced the index between looking up the alias and reading.
            answer = await client.request("POST", path, body)
    except QueryRefused:
        if after is not None:
            errors = [FieldError("cursor", "not a cursor of this search", "invalid_cursor")]
            raise InvalidCursor("Use the `next_cursor` of the page before, unchanged.", errors=errors) from None
        errors = [FieldError("q", "cannot be searched for", "invalid_query")]
        raise QueryNotUnderstood("Search for fewer or simpler words.", errors=errors) from None
    return read_answer(answer, query.limit)


def read_answer(answer: Mapping[str, Any], limit: int) -> Found:
    """What OpenSearch's answer to `search_body` says."""
    hits = answer["hits"]["hits"]
    return Found(
        items=[_item(hit) for hit in hits[:limit]],
        total=answer["hits"]["total"]["value"],
        facets={facet: _buckets(answer["aggregations"][facet]) for facet in FACETS},
        next_key=hits[limit - 1]["sort"] if len(hits) > limit else None,
    )


def _item(hit: Mapping[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = hit["_source"]
    amount, currency = item.pop("price_amount"), item.pop("price_currency")
    item["price"] = None if currency is None else {"amount": amount, "currency": currency}
    item["highlights"] = {
        field: [_marked(fragment) for fragment in fragments] for field, fragments in hit.get("highlight", {}).items()
    }
    return item


def _marked(fragment: str) -> str:
    """Safe HTML: the text escaped, the words found in `<mark>`."""
    return html.escape(fragment).replace(MARK_START, "<mark>").replace(MARK_END, "</mark>")


def _buckets(aggregation: Mapping[str, Any]) -> list[dict[str, Any]]:
    buckets = aggregation.get("values", aggregation)["buckets"]
    return [{"value": bucket["key"], "count": bucket["doc_count"]} for bucket in buckets]
