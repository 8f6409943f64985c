"""A Stripe sandbox served on loopback, the official client to it, and a check of every reply against the subset."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import orjson
import stripe
import uvicorn
from aiohttp import web
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from deploy.stripe_sandbox import schema
from deploy.stripe_sandbox.app import create_app
from deploy.stripe_sandbox.registry import HANDLERS

KEY = "sk_test_lyceum"
OK, DECLINED, INSUFFICIENT, SECURE = "4242424242424242", "4000000000000002", "4000000000009995", "4000002500003155"
stripe.enable_telemetry = False


_EMPTY: Registry[Any] = Registry()
_REGISTRY = _EMPTY.with_resource("urn:subset", DRAFT202012.create_resource(schema.document()))


@cache
def reply_validator(method: str, template: str) -> Draft202012Validator:
    """Validates successful replies of one operation."""
    return Draft202012Validator(_absolute(schema.reply(method, template)), registry=_REGISTRY)


@cache
def component_validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"urn:subset#/components/schemas/{name}"}, registry=_REGISTRY)


def _absolute(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: f"urn:subset{value}" if key == "$ref" else _absolute(value) for key, value in node.items()}
    return [_absolute(item) for item in node] if isinstance(node, list) else node


@cache
def _templates() -> list[tuple[str, str, re.Pattern[str]]]:
    """Literal paths before those with parameters."""
    ordered = sorted(HANDLERS, key=lambda operation: operation[1].count("{"))
    return [(method, path, re.compile("^" + re.sub(r"\{\w+\}", r"[^/]+", path) + "$")) for method, path in ordered]


def operation_of(method: str, path: str) -> tuple[str, str] | None:
    for known, template, pattern in _templates():
        if known == method and pattern.match(path):
            return known, template
    return None


class CheckingClient(stripe.AIOHTTPClient):
    """The official transport; every reply it sees must validate against the subset."""

    def __init__(self, seen: set[tuple[str, str]]) -> None:
        super().__init__(timeout=aiohttp.ClientTimeout(total=10))
        self.seen = seen

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body, status, reply_headers = await super().request_async(method, url, headers, post_data)
        operation = operation_of(method.upper(), urlsplit(url).path)
        if status != 200:
            component_validator("error").validate(orjson.loads(body))
        elif operation is not None:
            self.seen.add(operation)
            reply_validator(*operation).validate(orjson.loads(body))
        return body, status, reply_headers


@dataclass
class Served:
    """A running sandbox: `client` is the official one, `control` the control plane."""

    url: str
    client: stripe.StripeClient
    http: aiohttp.ClientSession
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def control(self, method: str, path: str, body: Any = None, *, key: str | None = KEY) -> Any:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.http.request(method, f"{self.url}/_sandbox{path}", json=body, headers=headers) as response:
            return await response.json() if response.status != 204 else None

    async def checkout(self, key: str | None = None, /, **changes: Any) -> stripe.checkout.Session:
        """An open session of 42.49 USD for order `o1`."""
        params: dict[str, Any] = {
            "mode": "payment",
            "success_url": "http://127.0.0.1:1/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "http://127.0.0.1:1/back",
            "client_reference_id": "o1",
            "metadata": {"order_id": "o1", "attempt": "1"},
            "payment_intent_data": {"metadata": {"order_id": "o1"}},
            "line_items": [line("Course", 4249)],
        }
        options: stripe.RequestOptions = {"idempotency_key": key} if key else {}
        asked = cast(Any, {**params, **changes})
        return await self.client.v1.checkout.sessions.create_async(asked, options)

    async def pay(self, session_id: str, card: str = OK, **more: Any) -> Any:
        return await self.control("POST", f"/checkout/{session_id}/pay", {"card": card, **more})

    async def paid(self, card: str = OK, **changes: Any) -> stripe.Charge:
        """A charge paid through a session of its own."""
        session = await self.checkout(**changes)
        outcome = await self.pay(session.id, card)
        return await self.client.v1.charges.retrieve_async(outcome["charge"])

    async def event_types(self) -> list[str]:
        """Types of all events, oldest first."""
        page = await self.client.v1.events.list_async({"limit": 100})
        return [event.type for event in reversed(page.data)]


def line(name: str, amount: int, currency: str = "usd", quantity: int = 1) -> dict[str, Any]:
    price = {"currency": currency, "unit_amount": amount, "product_data": {"name": name}}
    return {"quantity": quantity, "price_data": price}


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serve(state: Path | str = ":memory:", seen: set[tuple[str, str]] | None = None) -> AsyncIterator[Served]:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(state), access_log=False, log_level="warning", lifespan="on")
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    await asyncio.wait_for(server.up.wait(), 10)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    transport = CheckingClient(seen if seen is not None else set())
    client = stripe.StripeClient(KEY, base_addresses={"api": url}, http_client=transport, max_network_retries=0)
    try:
        async with aiohttp.ClientSession() as http:
            yield Served(url, client, http, transport.seen)
    finally:
        await transport.close_async()  # type: ignore[no-untyped-call]
        server.should_exit = True
        await running
        listener.close()


@dataclass
class Receiver:
    """A webhook endpoint that keeps what it gets and answers `status`."""

    url: str
    status: int = 200
    got: list[tuple[bytes, str]] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        async with self.arrived:
            self.got.append((body, request.headers["Stripe-Signature"]))
            self.arrived.notify_all()
        return web.Response(status=self.status)

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The bodies once at least `count` arrived."""
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: len(self.got) >= count), 10)
        return self.bodies()

    def bodies(self) -> list[dict[str, Any]]:
        return [orjson.loads(body) for body, _ in self.got]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    app = web.Application()
    runner = web.AppRunner(app)
    found = Receiver("")
    app.router.add_post("/hook", found.receive)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    found.url = f"http://{host}:{port}/hook"
    try:
        yield found
    finally:
        await runner.cleanup()
