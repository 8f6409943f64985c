"""`GET /v1/search/courses` over a small catalogue on real servers."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from api.schemas.search import CourseSearchRead
from core.cache import Recent
from core.settings import Settings
from search import setup
from search.queries import MAX_WORDS, Sort
from tests.api.conftest import serving
from tests.support import isolation
from tests.support.catalogue import Catalogue, catalogue
from tests.support.proxy import proxied
from tests.support.stack import Servers
from tests.support.wait import until

PATH = "/v1/search/courses"

BREAD = {
    "summary": "Sourdough & rye, from <flour> to loaf.",
    "description": "Feed a *starter* and bake.",
    "tags": ["baking", "fermentation"],
    "category": "cooking",
    "level": "beginner",
    "language": "en",
}
ECLAIRS = {
    "summary": "Choux pastry that rises.",
    "description": "Piping, filling, glazing.",
    "tags": ["baking", "pastry"],
    "category": "cooking",
    "level": "advanced",
    "language": "fr",
    "price_amount": 1500,
    "price_currency": "eur",
}
PYTHON = {
    "summary": "Write programs that others can read.",
    "description": "Functions, classes and tests.",
    "tags": ["python", "code"],
    "category": "programming",
    "level": "beginner",
    "language": "en",
    "price_amount": 4900,
    "price_currency": "usd",
}
NODE = {
    "summary": "Services in JavaScript.",
    "description": "The event loop, explained.",
    "tags": ["javascript", "web"],
    "category": "programming",
    "level": "intermediate",
    "language": "pt-BR",
    "price_amount": 900,
    "price_currency": "usd",
}


@pytest.fixture(scope="module")
async def corner(servers: Servers) -> AsyncIterator[Settings]:
    async with isolation.corner(servers) as fresh:
        yield fresh


@pytest.fixture(scope="module")
async def courses(corner: Settings) -> AsyncIterator[Catalogue]:
    """Newest first: bread, éclairs, Python, Node."""
    async with catalogue(corner) as fresh:
        await fresh.add("Fresh Bread", **BREAD)
        await fresh.add("Éclairs at Home", **ECLAIRS)
        await fresh.add("Python for Beginners", **PYTHON)
        await fresh.add("Node.js Services", **NODE)
        await setup.ensure(fresh.client, fresh.db)
        yield fresh


@pytest.fixture(scope="module")
async def client(corner: Settings, courses: Catalogue) -> AsyncIterator[httpx2.AsyncClient]:
    async with serving(corner) as (_, calling):
        yield calling


async def search(client: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    answer = await client.get(PATH, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    CourseSearchRead.model_validate_json(answer.content, strict=True)
    return dict(answer.json())


async def titles(client: httpx2.AsyncClient, **parameters: Any) -> list[str]:
    return [item["title"] for item in (await search(client, **parameters))["items"]]


async def refused(client: httpx2.AsyncClient, **parameters: Any) -> tuple[str, list[str]]:
    answer = await client.get(PATH, params=parameters)
    assert answer.status_code == 422, answer.text
    return answer.json()["code"], [error["field"] for error in answer.json()["errors"]]


async def test_everything_published_newest_first(client: httpx2.AsyncClient) -> None:
    found = await search(client)

    assert [item["title"] for item in found["items"]] == [
        "Fresh Bread",
        "Éclairs at Home",
        "Python for Beginners",
        "Node.js Services",
    ]
    assert (found["total"], found["next_cursor"]) == (4, None)


async def test_a_result_shows_the_course(client: httpx2.AsyncClient, courses: Catalogue) -> None:
    (item,) = (await search(client, q="choux"))["items"]

    published = {title: course_id for course_id, title in (await courses.published()).items()}
    assert item.pop("published_at").endswith("+00:00")
    assert item == {
        "id": published["Éclairs at Home"],
        "slug": published["Éclairs at Home"].replace("-", ""),
        "title": "Éclairs at Home",
        "summary": "Choux pastry that rises.",
        "category": "cooking",
        "level": "advanced",
        "language": "fr",
        "tags": ["baking", "pastry"],
        "price": {"amount": 1500, "currency": "eur"},
        "highlights": {"summary": ["<mark>Choux</mark> pastry that rises."]},
    }


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("bread", ["Fresh Bread"]),
        ("BREAD", ["Fresh Bread"]),
        ("bred", ["Fresh Bread"]),
        ("read", ["Python for Beginners"]),
        ("pyhton", ["Python for Beginners"]),
        ("pythno beginers", ["Python for Beginners"]),
        ("beg", ["Python for Beginners"]),
        ("sourd", ["Fresh Bread"]),
        ("pyhton begin", ["Python for Beginners"]),
        ("eclairs", ["Éclairs at Home"]),
        ("éclairs", ["Éclairs at Home"]),
        ("fermentation", ["Fresh Bread"]),
        ("starter", ["Fresh Bread"]),
        ("javascript loop", ["Node.js Services"]),
        ("programming classes", ["Python for Beginners"]),
        ("bread python", []),
        ("bread ?", ["Fresh Bread"]),
        ("- bread", ["Fresh Bread"]),
        ("python -", ["Python for Beginners"]),
        ("!!!", []),
        ("   ", ["Fresh Bread", "Éclairs at Home", "Python for Beginners", "Node.js Services"]),
    ],
)
async def test_words_are_found_with_typos_unfinished_and_across_fields(
    client: httpx2.AsyncClient, q: str, expected: list[str]
) -> None:
    assert await titles(client, q=q) == expected


async def test_languages_are_told_apart_by_their_signs(client: httpx2.AsyncClient, courses: Catalogue) -> None:
    answer = await courses.client.request("GET", "/")
    if answer["version"]["build_hash"] == "osmem":
        pytest.skip("the in-memory stand-in for OpenSearch applies no character filters")
    ids = [await courses.add(title, **PYTHON) for title in ("C# in Depth", "C++ at Speed", "Node.js at Scale")]
    for course_id in ids:
        await courses.tell(await courses.change(course_id, summary=""))
    await courses.refresh()

    found = {q: await titles(client, q=q) for q in ("c#", "C++", "csharp", "node scale", "js scale", "node.js scale")}
    for course_id in ids:
        await courses.tell(await courses.change(course_id, status="unpublished"))
    await courses.refresh()

    assert found == {
        "c#": ["C# in Depth"],
        "C++": ["C++ at Speed"],
        "csharp": ["C# in Depth"],
        "node scale": ["Node.js at Scale"],
        "js scale": ["Node.js at Scale"],
        "node.js scale": ["Node.js at Scale"],
    }


async def test_better_matches_come_first(client: httpx2.AsyncClient) -> None:
    # "baking" is a tag of both, and close to a word of one's description.
    assert await titles(client, q="baking bread") == ["Fresh Bread"]
    assert await titles(client, q="python") == ["Python for Beginners"]
    assert (await titles(client, q="services"))[0] == "Node.js Services"


async def test_highlights_are_safe_html(client: httpx2.AsyncClient) -> None:
    (item,) = (await search(client, q="sourdoug fresh"))["items"]

    assert item["highlights"] == {
        "title": ["<mark>Fresh</mark> Bread"],
        "summary": ["<mark>Sourdough</mark> &amp; rye, from &lt;flour&gt; to loaf."],
    }
    assert item["summary"] == BREAD["summary"]


async def test_facets_count_what_each_value_would_find(client: httpx2.AsyncClient) -> None:
    assert (await search(client))["facets"] == {
        "category": [{"value": "cooking", "count": 2}, {"value": "programming", "count": 2}],
        "level": [
            {"value": "beginner", "count": 2},
            {"value": "advanced", "count": 1},
            {"value": "intermediate", "count": 1},
        ],
        "language": [{"value": "en", "count": 2}, {"value": "fr", "count": 1}, {"value": "pt-BR", "count": 1}],
        "price": [{"value": "paid", "count": 3}, {"value": "free", "count": 1}],
    }


async def test_a_choice_narrows_every_facet_but_its_own(client: httpx2.AsyncClient) -> None:
    found = await search(client, level="beginner")

    assert [item["title"] for item in found["items"]] == ["Fresh Bread", "Python for Beginners"]
    assert found["total"] == 2
    assert found["facets"] == {
        "category": [{"value": "cooking", "count": 1}, {"value": "programming", "count": 1}],
        "level": [
            {"value": "beginner", "count": 2},
            {"value": "advanced", "count": 1},
            {"value": "intermediate", "count": 1},
        ],
        "language": [{"value": "en", "count": 2}],
        "price": [{"value": "free", "count": 1}, {"value": "paid", "count": 1}],
    }


async def test_several_values_of_one_facet_widen_and_facets_together_narrow(client: httpx2.AsyncClient) -> None:
    assert await titles(client, level=["advanced", "intermediate"]) == ["Éclairs at Home", "Node.js Services"]
    assert await titles(client, level=["advanced", "intermediate"], category="cooking") == ["Éclairs at Home"]
    assert await titles(client, language="PT-br") == ["Node.js Services"]
    assert await titles(client, language="de") == []


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"price_max": 0}, ["Fresh Bread"]),
        ({"price_min": 1}, ["Éclairs at Home", "Python for Beginners", "Node.js Services"]),
        ({"price_min": 900, "price_max": 1500}, ["Éclairs at Home", "Node.js Services"]),
        ({"price_min": 901, "price_max": 1499}, []),
    ],
)
async def test_prices_are_bounded_inclusively(
    client: httpx2.AsyncClient, bounds: dict[str, int], expected: list[str]
) -> None:
    assert await titles(client, **bounds) == expected


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("newest", ["Fresh Bread", "Éclairs at Home", "Python for Beginners", "Node.js Services"]),
        ("price_asc", ["Fresh Bread", "Node.js Services", "Éclairs at Home", "Python for Beginners"]),
        ("price_desc", ["Python for Beginners", "Éclairs at Home", "Node.js Services", "Fresh Bread"]),
        ("title", ["Éclairs at Home", "Fresh Bread", "Node.js Services", "Python for Beginners"]),
    ],
)
async def test_orders(client: httpx2.AsyncClient, sort: str, expected: list[str]) -> None:
    assert await titles(client, sort=sort) == expected


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("limit", [1, 3])
async def test_pages_show_every_result_once(client: httpx2.AsyncClient, sort: Sort, limit: int) -> None:
    whole = [item["id"] for item in (await search(client, q="e", sort=sort))["items"]]
    pages, cursor = [], None
    while True:
        page = await search(client, q="e", sort=sort, limit=limit, **({"cursor": cursor} if cursor else {}))
        assert page["total"] == len(whole)
        pages.append([item["id"] for item in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert [course_id for page in pages for course_id in page] == whole
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


async def test_a_course_that_appears_does_not_move_the_next_page(
    client: httpx2.AsyncClient, courses: Catalogue
) -> None:
    first = await search(client, sort="title", limit=2)
    extra = await courses.add("A Course Before All Others")
    await courses.tell(await courses.change(extra, status="published"))
    await courses.refresh()

    second = await search(client, sort="title", limit=2, cursor=first["next_cursor"])
    await courses.tell(await courses.change(extra, status="unpublished"))
    await courses.refresh()

    assert [item["title"] for item in second["items"]] == ["Node.js Services", "Python for Beginners"]


async def test_a_cursor_of_something_else_is_refused(client: httpx2.AsyncClient) -> None:
    cursor = (await search(client, sort="title", limit=1))["next_cursor"]

    assert await refused(client, sort="newest", limit=1, cursor=cursor) == ("InvalidCursor", ["cursor"])
    assert await refused(client, sort="title", q="bread", cursor=cursor) == ("InvalidCursor", ["cursor"])
    assert await refused(client, sort="title", cursor=cursor[:-3]) == ("InvalidCursor", ["cursor"])
    assert await refused(client, cursor="") == ("InvalidCursor", ["cursor"])
    assert await refused(client, cursor="e30") == ("InvalidCursor", ["cursor"])


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "x"}, "limit"),
        ({"sort": "best"}, "sort"),
        ({"level": "expert"}, "level.0"),
        ({"category": "nonsense"}, "category.0"),
        ({"language": "not a language"}, "language.0"),
        ({"price_min": -1}, "price_min"),
        ({"price_max": 2**60}, "price_max"),
        ({"price_min": 2, "price_max": 1}, "price_max"),
        ({"q": "x" * 201}, "q"),
        ({"cursor": "x" * 2049}, "cursor"),
        ({"colour": "brown"}, "colour"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx2.AsyncClient, parameters: dict[str, Any], field: str) -> None:
    _, fields = await refused(client, **parameters)

    assert fields == [field]


@pytest.mark.parametrize(
    "q",
    [
        " ".join(f"word{number}" for number in range(MAX_WORDS + 10)),
        "-".join("abc" for _ in range(50)),
        "日本語" * 60,
        '"\\*?~{}[]()/AND OR NOT',
        "\x00\x07\u2028\ue000<mark>",
        "\U0001f600" * 100,
    ],
)
async def test_strange_words_find_nothing(client: httpx2.AsyncClient, q: str) -> None:
    assert await titles(client, q=q) == []


async def test_an_answer_is_given_again_for_a_moment_only(
    corner: Settings, client: httpx2.AsyncClient, courses: Catalogue
) -> None:
    async with serving(corner) as (app, patient):
        app.state.container.searches = Recent(size=10, ttl=3600)
        assert await titles(patient, q="rhubarb") == []
        rhubarb = await courses.add("Rhubarb", **BREAD)
        await courses.tell(await courses.change(rhubarb, status="published"))
        await courses.refresh()
        assert await titles(client, q="rhubarb") == ["Rhubarb"]
        assert await titles(patient, q="rhubarb") == []

    await courses.tell(await courses.change(rhubarb, status="unpublished"))
    await until(lambda: _is_empty(client, "rhubarb"), every=0.2)


async def _is_empty(client: httpx2.AsyncClient, q: str) -> bool:
    return await titles(client, q=q) == []


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", ""])
async def test_searching_works_without_the_cache(corner: Settings, courses: Catalogue, url: str) -> None:
    settings = corner.model_copy(update={"redis": corner.redis.model_copy(update={"url": SecretStr(url)})})
    async with serving(settings) as (_, client):
        assert await titles(client, q="bread") == ["Fresh Bread"]


async def test_without_opensearch_only_search_is_unavailable(corner: Settings, servers: Servers) -> None:
    async with proxied("127.0.0.1", servers.port("opensearch")) as proxy:

        def through(**changes: Any) -> Settings:
            url = SecretStr(f"http://127.0.0.1:{proxy.port}")
            opensearch = corner.opensearch.model_copy(update={"url": url, **changes})
            return corner.model_copy(update={"opensearch": opensearch})

        async with serving(through()) as (_, client), serving(through(timeout=0.5)) as (_, hasty):
            assert await titles(client, q="bread fresh") == ["Fresh Bread"]
            for outage, caller in ((proxy.cut, client), (proxy.freeze, hasty)):
                outage()
                answer = await caller.get(PATH, params={"q": outage.__name__})
                assert (answer.status_code, answer.json()["code"]) == (503, "SearchUnavailable")
                assert answer.headers["retry-after"] == "5"
                assert (await caller.get("/healthz")).status_code == 200
                proxy.restore()
                assert await titles(client, q=f"bread {outage.__name__}") == []


async def test_an_index_that_is_not_built_yet_is_unavailable(corner: Settings) -> None:
    nowhere = corner.opensearch.model_copy(update={"index_prefix": f"{corner.opensearch.index_prefix}-nowhere"})
    async with serving(corner.model_copy(update={"opensearch": nowhere})) as (_, client):
        answer = await client.get(PATH, params={"q": "nowhere"})

    assert (answer.status_code, answer.json()["code"]) == (503, "IndexMissing")
    assert answer.headers["retry-after"] == "5"
