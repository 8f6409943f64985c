"""Webhook endpoints: where events of an account are sent."""

from deploy.stripe_sandbox import schema
from deploy.stripe_sandbox.context import CURSORS, Context, new_id
from deploy.stripe_sandbox.errors import invalid
from deploy.stripe_sandbox.metadata import merged
from deploy.stripe_sandbox.registry import api
from deploy.stripe_sandbox.schema import JSON


def _check_events(types: list[str]) -> list[str]:
    known = set(schema.component("event")["properties"]["type"]["enum"]) | {"*"}
    for number, kind in enumerate(types):
        if kind not in known:
            at = f"enabled_events[{number}]"
            raise invalid(f"Invalid {at}: must be one of Stripe's event types", param=at)
    return types


def _check_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise invalid("Invalid URL: An explicit scheme (such as https) must be provided.", code="url_invalid")
    return url


def make(ctx: Context, params: JSON, secret: str) -> JSON:
    endpoint: JSON = {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": None,
        "application": None,
        "created": ctx.now,
        "description": params.get("description"),
        "enabled_events": _check_events(params["enabled_events"]),
        "livemode": False,
        "metadata": merged({}, params),
        "status": "enabled",
        "url": _check_url(params["url"]),
    }
    ctx.store.insert(ctx.account, endpoint, {"secret": secret})
    return endpoint


def register(ctx: Context, url: str, secret: str, enabled_events: list[str]) -> JSON:
    """Make or change the endpoint with this URL so that it has this secret: for set-up scripts that must know it."""
    for endpoint in ctx.store.select(ctx.account, "webhook_endpoint", {"data ->> 'url' = ?": url}, limit=1):
        endpoint |= {"enabled_events": _check_events(enabled_events), "status": "enabled"}
        ctx.store.save(endpoint)
        ctx.store.save_private(endpoint["id"], ctx.store.private(endpoint["id"]) | {"secret": secret})
        return endpoint
    return make(ctx, {"url": url, "enabled_events": enabled_events}, secret)


@api("POST", "/v1/webhook_endpoints", "description", "enabled_events", "metadata", "url")
def create_endpoint(ctx: Context, params: JSON) -> JSON:
    secret = new_id("whsec", 32)
    return make(ctx, params, secret) | {"secret": secret}


@api("GET", "/v1/webhook_endpoints", *CURSORS)
def list_endpoints(ctx: Context, params: JSON) -> JSON:
    return ctx.page("webhook_endpoint", "/v1/webhook_endpoints", params)


@api("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve_endpoint(ctx: Context, params: JSON, webhook_endpoint: str) -> JSON:
    return ctx.get("webhook_endpoint", webhook_endpoint)


@api("POST", "/v1/webhook_endpoints/{webhook_endpoint}", "description", "disabled", "enabled_events", "metadata", "url")
def update_endpoint(ctx: Context, params: JSON, webhook_endpoint: str) -> JSON:
    endpoint = ctx.get("webhook_endpoint", webhook_endpoint)
    if "enabled_events" in params:
        endpoint["enabled_events"] = _check_events(params["enabled_events"])
    if "url" in params:
        endpoint["url"] = _check_url(params["url"])
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    endpoint["description"] = params.get("description", endpoint["description"])
    endpoint["metadata"] = merged(endpoint["metadata"], params)
    ctx.store.save(endpoint)
    return endpoint


@api("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(ctx: Context, params: JSON, webhook_endpoint: str) -> JSON:
    ctx.get("webhook_endpoint", webhook_endpoint)
    ctx.store.delete(webhook_endpoint)
    ctx.store.execute("delete from deliveries where endpoint = ?", webhook_endpoint)
    return {"id": webhook_endpoint, "object": "webhook_endpoint", "deleted": True}
