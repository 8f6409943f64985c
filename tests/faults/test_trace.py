"""One purchase is one trace: from the HTTP request through workflow and activity to the event's handler."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from core.db import Database
from core.settings import Settings
from deploy.setup import setup
from tests.faults.conftest import PROCESSES
from tests.support.product import own_account, running
from tests.support.sandbox import Sandbox
from tests.support.shop import Shop
from tests.support.wait import until


class Collector:
    """An OTLP collector that remembers (trace id, service, span name)."""

    def __init__(self) -> None:
        self.spans: set[tuple[bytes, str, str]] = set()
        self.port = 0

    async def receive(self, request: web.Request) -> web.Response:
        batch = ExportTraceServiceRequest.FromString(await request.read())
        for resource in batch.resource_spans:
            [service] = [a.value.string_value for a in resource.resource.attributes if a.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans |= {(span.trace_id, service.removeprefix("lyceum-"), span.name) for span in scope.spans}
        return web.Response()

    def of(self, trace: bytes) -> set[tuple[str, str]]:
        return {(service, name) for trace_id, service, name in self.spans if trace_id == trace}


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    found = Collector()
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/v1/traces", found.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    yield found
    await runner.cleanup()


@pytest.mark.timeout(600)
async def test_a_purchase_is_one_trace(settings: Settings, db: Database, collector: Collector, tmp_path: Path) -> None:
    own = own_account(settings, tmp_path)
    telemetry = own.telemetry.model_copy(update={"otlp_endpoint": f"http://127.0.0.1:{collector.port}"})
    own = own.model_copy(update={"telemetry": telemetry})
    await setup(own)
    sandbox = Sandbox(own)
    await sandbox.listen()
    async with running(own, tmp_path, PROCESSES) as product, aclosing(sandbox):
        shop = Shop(product, sandbox, db)
        await shop.bought_once(await shop.buy(await shop.course()))
        await asyncio.gather(*(product.stop(name) for name in PROCESSES))  # a stopping process flushes its spans

    async def placing() -> set[bytes]:
        return {trace for trace, service, name in collector.spans if (service, name) == ("api", "POST /v1/orders")}

    [trace] = await until(placing)
    spans = collector.of(trace)
    assert {
        ("worker", "RunWorkflow:Order"),
        ("worker", "HandleUpdate:place"),
        ("worker", "RunActivity:payments.open_checkout"),
        ("worker", "RunActivity:orders.apply_payments"),
        ("relay", "publish order.placed.v1"),
        ("notifications", "handle order.paid.v1"),
    } <= {(service.removeprefix("consume-"), name) for service, name in spans}
