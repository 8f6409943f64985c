"""Events as the API lists them."""

import orjson

from deploy.stripe_sandbox.context import PAGE, Context
from deploy.stripe_sandbox.errors import invalid
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON

_PENDING = "exists (select 1 from deliveries where event = objects.id and status = 'pending') = ?"


@api("GET", "/v1/events", *PAGE, "delivery_success", "type", "types")
def list_events(ctx: Context, params: JSON) -> JSON:
    if "type" in params and "types" in params:
        raise invalid("You may only specify one of these parameters: type, types.", param="types")
    filters = {"type like replace(?, '*', '%')": params.get("type")}
    if types := params.get("types"):
        filters["type in (select value from json_each(?))"] = orjson.dumps(types).decode()
    if "delivery_success" in params:
        filters[_PENDING] = not params["delivery_success"]
    return ctx.page("event", "/v1/events", params, filters)


@api("GET", "/v1/events/{id}")
def retrieve_event(ctx: Context, params: JSON, id: str) -> JSON:
    return ctx.get("event", id)
