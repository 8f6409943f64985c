"""What all schemas share. Requests are strict: no unknown fields, no `"5"` for a number, no `1` for true."""

from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

Lenient = Field(strict=False)
"""For what JSON can only write as a string: ids, enumerations, dates. `role: Annotated[Role, Lenient]`."""

Id = Annotated[UUID, Lenient]


class RequestModel(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResponseModel(BaseModel):
    """A response body: it lists its fields, so that a new column is never shown by accident."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True)

    @classmethod
    def of(cls, row: object, **other: Any) -> Self:
        """What the row has of the fields, and the `other` ones, which it has not."""
        return cls.model_validate({name: getattr(row, name) for name in cls.model_fields.keys() - other} | other)
