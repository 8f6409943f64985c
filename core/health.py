"""`/healthz`, `/readyz` and `/metrics` of the processes that serve nothing else.

`healthz` says that the process's event loop runs; `readyz` that it reaches what it needs. A backing service that is
down makes a process not ready, never unhealthy: killing it would not help.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from core.settings import TelemetrySettings

Check = Callable[[], Awaitable[None]]
"""Returns when what it looks at is there, raises when not."""

_TIMEOUT = 3.0


async def failing(checks: Mapping[str, Check]) -> dict[str, str]:
    """The checks that raise or take over 3 s, by name, with the class of the error."""

    async def look(check: Check) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await check()
        except Exception as error:  # whatever it is, the answer is "not ready"
            return type(error).__name__
        return None

    outcomes = await asyncio.gather(*(look(check) for check in checks.values()))
    return {name: error for name, error in zip(checks, outcomes, strict=True) if error is not None}


def _application(checks: Mapping[str, Check]) -> web.Application:
    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_: web.Request) -> web.Response:
        errors = await failing(checks)
        body = {"status": "unavailable" if errors else "ok", "failing": errors}
        return web.json_response(body, status=503 if errors else 200)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@asynccontextmanager
async def serve(settings: TelemetrySettings, checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Serves while the block runs; nothing where `metrics_port` is 0."""
    if not settings.metrics_port:
        yield
        return
    runner = web.AppRunner(_application(checks), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.metrics_host, settings.metrics_port).start()
        yield
    finally:
        await runner.cleanup()
