"""Orders as clients send and see them. Amounts are minor units of the order's currency."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from api.schemas.base import Id, RequestModel, ResponseModel
from domain.orders import MAX_LINES, OrderStatus


class OrderItem(RequestModel):
    course_id: Id


class OrderCreate(RequestModel):
    items: Annotated[list[OrderItem], Field(min_length=1, max_length=MAX_LINES)]

    @field_validator("items")
    @classmethod
    def _each_course_once(cls, items: list[OrderItem]) -> list[OrderItem]:
        if len({item.course_id for item in items}) != len(items):
            raise PydanticCustomError("duplicate_course", "Names a course twice")
        return items


class OrderLineRead(ResponseModel):
    course_id: UUID
    title: str
    list_amount: int
    discount: int
    net: int
    granted_at: datetime | None


class OrderRead(ResponseModel):
    """`checkout_url` is where to pay, while the order waits for it."""

    id: UUID
    status: OrderStatus
    currency: str
    list_total: int
    discount_total: int
    tax_total: int
    gross: int
    lines: list[OrderLineRead]
    checkout_url: str | None
    expires_at: datetime
    created_at: datetime
    paid_at: datetime | None
    settled_at: datetime | None
    closed_at: datetime | None
    closed_reason: str | None = Field(
        description="Why it ended unpaid: `canceled`, `expired`, `payment_failed`, `checkout_refused`, `course_full`, "
        "or why its payment bought nothing: `amount_mismatch`, `currency_mismatch`, `livemode_mismatch`, "
        "`already_owned`, `in_open_order`."
    )
