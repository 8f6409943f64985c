"""The HTTP application: Stripe's API, the payment page, the control plane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from deploy.stripe_sandbox import (
    balance,
    catalog,
    charges,
    checkout,
    control,
    customers,
    endpoints,
    events,
    front,
    intents,
    page,
    refunds,
)
from deploy.stripe_sandbox.api import API
from deploy.stripe_sandbox.errors import StripeError
from deploy.stripe_sandbox.sandbox import Sandbox

NOUNS = (balance, catalog, charges, checkout, customers, endpoints, events, intents, refunds)
"""Importing them fills the registry."""


def create_app(state: Path | str, public_url: str = "") -> FastAPI:
    """The application over a state file (`:memory:` for none)."""
    sandbox = Sandbox(state, public_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.create_task(sandbox.run())
        yield
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
        await sandbox.close()

    app = FastAPIOffline(
        title="Stripe sandbox",
        docs_url="/_sandbox/docs",
        redoc_url=None,
        static_url="/_sandbox/assets",
        lifespan=lifespan,
    )
    app.state.sandbox = sandbox
    app.exception_handler(StripeError)(control.stripe_error)
    app.exception_handler(page.Instead)(page.instead)
    app.mount("/v1", API(sandbox))
    app.include_router(control.router)
    app.include_router(page.router)
    app.include_router(front.router)
    return app
