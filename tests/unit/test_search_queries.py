import math
from typing import Any

import pytest

from api.pagination import encode_cursor
from api.routers.search import InvalidPriceRange, _after, _query
from api.schemas.search import CourseSearch
from domain.courses import Category, Level
from domain.errors import InvalidCursor
from search.documents import MARK_END, MARK_START, plain_text, title_sort_key
from search.queries import MAX_WORDS, CourseQuery, Sort, read_answer, search_body

DATA = Category.DATA_SCIENCE
BEGINNER = Level.BEGINNER


def test_a_search_without_words_is_newest_first_and_highlights_nothing() -> None:
    body = search_body(CourseQuery(limit=10))

    assert body["query"] == {"bool": {"filter": {"exists": {"field": "published_at"}}}}
    assert body["sort"] == [{"published_at": "desc"}, {"id": "asc"}]
    assert body["size"] == 11
    assert "highlight" not in body
    assert "post_filter" not in body
    assert "search_after" not in body


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        (Sort.RELEVANCE, {"_score": "desc"}),
        (Sort.NEWEST, {"published_at": "desc"}),
        (Sort.PRICE_ASC, {"price_amount": "asc"}),
        (Sort.PRICE_DESC, {"price_amount": "desc"}),
        (Sort.TITLE, {"title_sort": "asc"}),
    ],
)
def test_every_order_ends_with_the_id(sort: Sort, first: dict[str, str]) -> None:
    assert search_body(CourseQuery(q="bread", sort=sort))["sort"] == [first, {"id": "asc"}]


def test_only_the_last_word_may_be_unfinished() -> None:
    must = search_body(CourseQuery(q="  deep   lear "))["query"]["bool"]["must"]

    last, others = must
    forgiving = {"operator": "and", "fuzziness": "AUTO", "prefix_length": 1, "max_expansions": 25}
    assert last["bool"]["should"] == [
        {"match": {"text": {"query": "lear", **forgiving}}},
        {"match_bool_prefix": {"text": {"query": "lear", "operator": "and"}}},
    ]
    assert others == {"match": {"text": {"query": "deep", **forgiving}}}


def test_words_beyond_the_limit_do_not_count() -> None:
    words = [f"w{number}" for number in range(MAX_WORDS + 5)]

    assert CourseQuery(q=" ".join(words)).words == words[:MAX_WORDS]


def test_a_facet_is_counted_under_every_other_choice_but_not_its_own() -> None:
    query = CourseQuery(categories=(DATA,), levels=(BEGINNER,), price_min=1, price_max=500)
    category = {"terms": {"category": (DATA,)}}
    level = {"terms": {"level": (BEGINNER,)}}
    price = {"range": {"price_amount": {"gte": 1, "lte": 500}}}

    body = search_body(query)

    assert body["post_filter"] == {"bool": {"filter": [category, level, price]}}
    assert {facet: aggregation["filter"]["bool"]["filter"] for facet, aggregation in body["aggs"].items()} == {
        "category": [level, price],
        "level": [category, price],
        "language": [category, level, price],
        "price": [category, level],
    }


def test_the_only_choice_leaves_its_own_facet_unfiltered() -> None:
    aggs = search_body(CourseQuery(levels=(BEGINNER,)))["aggs"]

    assert aggs["level"] == {"terms": {"field": "level", "size": 100}}
    assert aggs["price"]["filter"] == {"bool": {"filter": [{"terms": {"level": (BEGINNER,)}}]}}


def test_a_price_of_zero_is_a_bound() -> None:
    assert search_body(CourseQuery(price_max=0))["post_filter"] == {
        "bool": {"filter": [{"range": {"price_amount": {"lte": 0}}}]}
    }


def _hit(number: int, **highlight: list[str]) -> dict[str, Any]:
    source = {"id": str(number), "price_amount": 0, "price_currency": None}
    return {"_source": source, "sort": [number, str(number)]} | ({"highlight": highlight} if highlight else {})


def _answer(*hits: dict[str, Any]) -> dict[str, Any]:
    plain = {"buckets": [{"key": "en", "doc_count": 2}]}
    narrowed = {"doc_count": 2, "values": {"buckets": [{"key": "free", "doc_count": 2}]}}
    aggregations = {"category": {"buckets": []}, "level": {"buckets": []}, "language": plain, "price": narrowed}
    return {"hits": {"hits": list(hits), "total": {"value": 7}}, "aggregations": aggregations}


def test_highlights_are_safe_html() -> None:
    fragment = f'<script>"{MARK_START}bread{MARK_END}" & salt</script>'

    found = read_answer(_answer(_hit(1, title=[fragment])), limit=5)

    assert found.items[0]["highlights"] == {
        "title": ["&lt;script&gt;&quot;<mark>bread</mark>&quot; &amp; salt&lt;/script&gt;"]
    }


def test_a_page_ends_before_the_extra_hit_and_names_where_to_continue() -> None:
    found = read_answer(_answer(_hit(1), _hit(2), _hit(3)), limit=2)

    assert [item["id"] for item in found.items] == ["1", "2"]
    assert found.next_key == [2, "2"]
    assert found.total == 7


def test_the_last_page_has_no_next() -> None:
    assert read_answer(_answer(_hit(1), _hit(2)), limit=2).next_key is None


def test_facets_read_the_same_narrowed_or_not() -> None:
    assert read_answer(_answer(), limit=2).facets == {
        "category": [],
        "level": [],
        "language": [{"value": "en", "count": 2}],
        "price": [{"value": "free", "count": 2}],
    }


def test_a_free_course_has_no_price() -> None:
    assert read_answer(_answer(_hit(1)), limit=1).items[0]["price"] is None


@pytest.mark.parametrize(
    "other",
    [
        CourseQuery(q="breads"),
        CourseQuery(q="bread", sort=Sort.TITLE),
        CourseQuery(q="bread", levels=(BEGINNER,)),
        CourseQuery(q="bread", categories=(DATA,)),
        CourseQuery(q="bread", languages=("en",)),
        CourseQuery(q="bread", price_min=1),
        CourseQuery(q="bread", price_max=1),
    ],
)
def test_a_cursor_of_another_search_is_refused(other: CourseQuery) -> None:
    query = CourseQuery(q="bread")
    cursor = encode_cursor(query.fingerprint, 1.5, "id")

    assert _after(query, cursor) == [1.5, "id"]
    with pytest.raises(InvalidCursor) as refusal:
        _after(other, cursor)
    assert [error.field for error in refusal.value.errors] == ["cursor"]


def test_the_page_size_may_change_between_pages() -> None:
    assert CourseQuery(q="bread", limit=10).fingerprint == CourseQuery(q="bread", limit=50).fingerprint


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_cursor_needs_a_finite_score(score: float) -> None:
    query = CourseQuery(q="bread")
    with pytest.raises(InvalidCursor):
        _after(query, encode_cursor(query.fingerprint, score, "id"))


def test_a_price_range_that_is_empty_is_refused() -> None:
    with pytest.raises(InvalidPriceRange) as refusal:
        _query(CourseSearch(price_min=2, price_max=1))
    assert [error.field for error in refusal.value.errors] == ["price_max"]


def test_language_tags_are_put_in_canonical_case() -> None:
    assert _query(CourseSearch(language=["PT-br"])).languages == ("pt-BR",)


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("# Bread\n\nFlour **and** wa*ter*.", "Bread Flour and water."),
        ("one\ntwo  \nthree", "one two three"),
        ("- a\n- [b](https://example.com)\n\n> c `d`", "a b c d"),
        ("```python\nprint(1)\n```\nafter", "print(1) after"),
        ("![a picture](x.png)", "a picture"),
        ("<b>x</b>", "<b>x</b>"),
        ("", ""),
    ],
)
def test_plain_text_keeps_the_words_and_drops_the_markup(markdown: str, text: str) -> None:
    assert plain_text(markdown) == text


def test_titles_sort_without_regard_to_case_and_accents() -> None:
    titles = ["Zebra", "éclair", "Ecology", "apple", "Émile"]

    assert sorted(titles, key=title_sort_key) == ["apple", "éclair", "Ecology", "Émile", "Zebra"]
