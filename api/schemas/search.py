"""What the course search takes and answers."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.pagination import DEFAULT_LIMIT, MAX_LIMIT
from api.schemas.base import ResponseModel
from api.schemas.courses import Language, PriceRead
from domain.courses import Category, Level
from search.queries import MAX_WORDS, Sort

_MAX_PRICE = 2**53

Price = Annotated[int, Field(ge=0, le=_MAX_PRICE)]


class CourseSearch(BaseModel):
    """The query parameters. A facet given several times means any of its values."""

    model_config = ConfigDict(extra="forbid")

    q: str = Field(
        default="",
        max_length=200,
        description=f"Words to look for, up to {MAX_WORDS}; typing errors are forgiven, the last may be unfinished.",
    )
    category: list[Category] = Field(default=[], max_length=20)
    level: list[Level] = Field(default=[], max_length=3)
    language: list[Language] = Field(default=[], max_length=20, description="BCP 47, e.g. `en` or `pt-BR`.")
    price_min: Price | None = Field(default=None, description="Minor units, whatever the currency; 1 means paid.")
    price_max: Price | None = Field(default=None, description="Minor units, whatever the currency; 0 means free.")
    sort: Sort = Field(default=Sort.RELEVANCE, description="`relevance` without `q` is `newest`.")
    cursor: str | None = Field(default=None, max_length=2048, description="`next_cursor` of the page before.")
    limit: int = Field(default=DEFAULT_LIMIT, ge=1, le=MAX_LIMIT)


class CourseHitRead(ResponseModel):
    """A published course that was found."""

    id: UUID
    slug: str
    title: str
    summary: str
    category: Category
    level: Level
    language: str
    tags: list[str]
    price: PriceRead | None = Field(description="Null is free.")
    published_at: AwareDatetime
    highlights: dict[Literal["title", "summary"], list[str]] = Field(
        description="Where the words were found: safe HTML whose only markup is `<mark>`."
    )


class FacetValueRead(ResponseModel):
    value: str
    count: int = Field(description="Results with this value, given the words and every other facet.")


class FacetsRead(ResponseModel):
    category: list[FacetValueRead]
    level: list[FacetValueRead]
    language: list[FacetValueRead]
    price: list[FacetValueRead] = Field(description="`free` and `paid`.")


class CourseSearchRead(ResponseModel):
    """`next_cursor` is null on the last page; `total` counts all pages."""

    items: list[CourseHitRead]
    next_cursor: str | None
    total: int
    facets: FacetsRead
