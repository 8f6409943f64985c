"""Products and prices."""

import orjson

from deploy.stripe_sandbox.context import PAGE, Context, new_id
from deploy.stripe_sandbox.errors import invalid, refused
from deploy.stripe_sandbox.intents import check_currency
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.params import only
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON

_PRODUCT = {"active", "description", "images", "name", "shippable", "statement_descriptor", "unit_label", "url"}
_PRICE = {"active", "lookup_key", "nickname", "tax_behavior"}
_PRICE_CREATE = _PRICE | {"currency", "metadata", "product", "product_data", "unit_amount"}


def _make_product(ctx: Context, params: JSON, *, active: bool = True) -> JSON:
    product: JSON = {
        "id": params.get("id") or new_id("prod", 14),
        "object": "product",
        "active": params.get("active", active),
        "created": ctx.now,
        "default_price": None,
        "description": params.get("description"),
        "images": params.get("images", []),
        "livemode": False,
        "marketing_features": [],
        "metadata": merged({}, params),
        "name": params["name"],
        "package_dimensions": None,
        "shippable": params.get("shippable"),
        "statement_descriptor": params.get("statement_descriptor"),
        "tax_code": None,
        "type": "service",
        "unit_label": params.get("unit_label"),
        "updated": ctx.now,
        "url": params.get("url"),
    }
    ctx.store.insert(ctx.account, product)
    return product


def _unit_amount(params: JSON, where: str = "") -> int:
    at = f"{where}[unit_amount]" if where else "unit_amount"
    if "unit_amount" not in params:
        raise invalid(f"Missing required param: {at}.", code="parameter_missing", param=at)
    amount: int = params["unit_amount"]
    if amount < 0:
        raise invalid("Invalid non-negative integer", code="parameter_invalid_integer", param=at)
    return amount


def _make_price(ctx: Context, params: JSON, product: str, amount: int, *, active: bool = True) -> JSON:
    price: JSON = {
        "id": new_id("price"),
        "object": "price",
        "active": params.get("active", active),
        "billing_scheme": "per_unit",
        "created": ctx.now,
        "currency": check_currency(params["currency"]),
        "custom_unit_amount": None,
        "livemode": False,
        "lookup_key": params.get("lookup_key"),
        "metadata": merged({}, params),
        "nickname": params.get("nickname"),
        "product": product,
        "recurring": None,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }
    ctx.store.insert(ctx.account, price)
    return price


def price_of_line(ctx: Context, where: str, item: JSON) -> tuple[JSON, str]:
    """The price of a checkout line, existing or made from `price_data`, and the product's name."""
    if ("price" in item) == ("price_data" in item):
        raise invalid("You must specify either `price` or `price_data` for each line item.", param=where)
    if "price" in item:
        price = ctx.get("price", item["price"], f"{where}[price]")
        if not price["active"]:
            raise refused(f"The price `{price['id']}` is inactive.", param=f"{where}[price]")
        return price, ctx.get("product", price["product"])["name"]
    data = item["price_data"]
    where = f"{where}[price_data]"
    only(data, _PRICE_CREATE, where)
    if ("product" in data) == ("product_data" in data):
        raise invalid("You must specify either `product` or `product_data` when creating a price.", param=where)
    amount = _unit_amount(data, where)
    if "product" in data:
        product = ctx.get("product", data["product"], f"{where}[product]")
    else:
        only(data["product_data"], _PRODUCT | {"metadata"}, f"{where}[product_data]")
        product = _make_product(ctx, data["product_data"], active=False)
    return _make_price(ctx, data, product["id"], amount, active=False), product["name"]


@api("POST", "/v1/products", *_PRODUCT, "id", "metadata")
def create_product(ctx: Context, params: JSON) -> JSON:
    if (product_id := params.get("id")) and ctx.store.find(product_id):
        raise refused("Product already exists.", code="resource_already_exists", param="id")
    product = _make_product(ctx, params)
    ctx.emit("product.created", product)
    return product


@api("GET", "/v1/products", *PAGE, "active", "ids", "url")
def list_products(ctx: Context, params: JSON) -> JSON:
    filters = {"data ->> 'active' = ?": params.get("active"), "data ->> 'url' = ?": params.get("url")}
    if ids := params.get("ids"):
        filters["id in (select value from json_each(?))"] = orjson.dumps(ids).decode()
    return ctx.page("product", "/v1/products", params, filters)


@api("GET", "/v1/products/{id}")
def retrieve_product(ctx: Context, params: JSON, id: str) -> JSON:
    return ctx.get("product", id)


@api("POST", "/v1/products/{id}", *_PRODUCT, "default_price", "metadata")
def update_product(ctx: Context, params: JSON, id: str) -> JSON:
    product = ctx.get("product", id)
    product |= {name: params[name] for name in (_PRODUCT | {"default_price"}) & params.keys()}
    product |= {"images": product["images"] or [], "metadata": merged(product["metadata"], params), "updated": ctx.now}
    ctx.store.save(product)
    ctx.emit("product.updated", product)
    return product


@api("DELETE", "/v1/products/{id}")
def delete_product(ctx: Context, params: JSON, id: str) -> JSON:
    product = ctx.get("product", id)
    if ctx.store.select(ctx.account, "price", {"product = ?": id}, limit=1):
        raise refused("This product cannot be deleted because it has one or more user-created prices.")
    ctx.store.delete(id)
    ctx.emit("product.deleted", product)
    return {"id": id, "object": "product", "deleted": True}


@api("POST", "/v1/prices", *_PRICE_CREATE)
def create_price(ctx: Context, params: JSON) -> JSON:
    if ("product" in params) == ("product_data" in params):
        raise invalid("You must specify either `product` or `product_data` when creating a price.", param="product")
    amount = _unit_amount(params)
    if "product" in params:
        product = ctx.get("product", params["product"], "product")
    else:
        only(params["product_data"], _PRODUCT | {"metadata"}, "product_data")
        product = _make_product(ctx, params["product_data"])
    price = _make_price(ctx, params, product["id"], amount)
    ctx.emit("price.created", price)
    return price


@api("GET", "/v1/prices", *PAGE, "active", "currency", "lookup_keys", "product", "type")
def list_prices(ctx: Context, params: JSON) -> JSON:
    filters = {
        "product = ?": params.get("product"),
        "type = ?": params.get("type"),
        "data ->> 'active' = ?": params.get("active"),
        "data ->> 'currency' = ?": params.get("currency"),
    }
    if keys := params.get("lookup_keys"):
        filters["data ->> 'lookup_key' in (select value from json_each(?))"] = orjson.dumps(keys).decode()
    return ctx.page("price", "/v1/prices", params, filters)


@api("GET", "/v1/prices/{price}")
def retrieve_price(ctx: Context, params: JSON, price: str) -> JSON:
    return ctx.get("price", price)


@api("POST", "/v1/prices/{price}", *_PRICE, "metadata")
def update_price(ctx: Context, params: JSON, price: str) -> JSON:
    found = ctx.get("price", price)
    found |= {name: params[name] for name in _PRICE & params.keys()}
    found["metadata"] = merged(found["metadata"], params)
    ctx.store.save(found)
    ctx.emit("price.updated", found)
    return found
