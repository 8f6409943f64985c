"""Customers."""

from deploy.stripe_sandbox.context import PAGE, Context, new_id
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON

_FIELDS = {"address", "description", "email", "name", "phone", "preferred_locales", "shipping", "tax_exempt"}
_ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")


def _apply(customer: JSON, params: JSON) -> None:
    for name in _FIELDS & params.keys():
        value = params[name]
        if name == "address" and value:
            value = {field: value.get(field) for field in _ADDRESS}
        customer[name] = value
    customer["metadata"] = merged(customer["metadata"], params)


@api("POST", "/v1/customers", *_FIELDS, "metadata")
def create_customer(ctx: Context, params: JSON) -> JSON:
    customer: JSON = {
        "id": new_id("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "created": ctx.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "invoice_prefix": new_id("x", 8)[2:].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
    _apply(customer, params)
    ctx.store.insert(ctx.account, customer)
    ctx.emit("customer.created", customer)
    return customer


@api("GET", "/v1/customers", *PAGE, "email")
def list_customers(ctx: Context, params: JSON) -> JSON:
    return ctx.page("customer", "/v1/customers", params, {"email = ?": params.get("email")})


@api("GET", "/v1/customers/{customer}")
def retrieve_customer(ctx: Context, params: JSON, customer: str) -> JSON:
    return ctx.get("customer", customer)


@api("POST", "/v1/customers/{customer}", *_FIELDS, "metadata")
def update_customer(ctx: Context, params: JSON, customer: str) -> JSON:
    found = ctx.get("customer", customer)
    before = dict(found)
    _apply(found, params)
    ctx.store.save(found)
    ctx.emit("customer.updated", found, {name: before[name] for name in before if before[name] != found[name]})
    return found


@api("DELETE", "/v1/customers/{customer}")
def delete_customer(ctx: Context, params: JSON, customer: str) -> JSON:
    found = ctx.get("customer", customer)
    ctx.store.delete(customer)
    ctx.emit("customer.deleted", found)
    return {"id": customer, "object": "customer", "deleted": True}
