"""The application: lifespan, middleware, error handlers, and every router under `/v1`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from api import errors, middleware, openapi
from api.container import AppContainer
from api.routers import (
    admin_ledger,
    admin_processes,
    admin_teachers,
    auth,
    courses,
    docs,
    enrollments,
    health,
    lessons,
    me,
    modules,
    notifications,
    orders,
    pages,
    search,
    stripe_webhooks,
    uploads,
)
from api.sweeper import sweep_until
from core import telemetry
from core.settings import Settings

ROUTERS: list[APIRouter] = [
    # A request tries them in this order: first what is read most.
    courses.router,
    lessons.router,
    enrollments.router,
    search.router,
    auth.router,
    me.router,
    notifications.router,
    admin_teachers.router,
    courses.my_router,
    modules.router,
    uploads.router,
    orders.router,
    admin_processes.router,
    admin_ledger.router,
]
"""Mounted under `/v1`."""

_DESCRIPTION = """\
Refusals are RFC 9457 problem documents: match on `code`. Lists are paged by an opaque `cursor`. Money is integer minor
units with a lower-case currency. While a backing service is down, what needs it answers 503 with `Retry-After`.
"""


def create_app(settings: Settings) -> FastAPI:
    """An application that starts whether its backing services are up or not."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.container = AppContainer.build(settings)
        stop = asyncio.Event()
        sweeper = asyncio.create_task(sweep_until(stop, app.state.container))
        try:
            yield
        finally:
            stop.set()
            await sweeper  # canceled in the middle of a statement it would leave its connection open
            await app.state.container.aclose()
            telemetry.flush()

    app = FastAPI(
        title="Lyceum",
        summary="Courses, orders, enrollments.",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        middleware=middleware.stack(settings.api),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.api.docs else None,
        redirect_slashes=False,
    )
    errors.install(app)
    openapi.install(app)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    app.include_router(health.router)
    app.include_router(pages.router)
    app.include_router(stripe_webhooks.router)
    if settings.api.docs:
        app.include_router(docs.router)
    telemetry.instrument_app(app, settings)
    return app
