"""The application: lifespan, middleware, error handlers, and every router under `/v1`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from api import errors
from api.container import AppContainer
from api.routers import search
from core.settings import Settings

ROUTERS: list[APIRouter] = [search.router]
"""Mounted under `/v1`."""


def create_app(settings: Settings) -> FastAPI:
    """An application that starts whether its backing services are up or not."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.container = AppContainer.build(settings)
        try:
            yield
        finally:
            await app.state.container.aclose()

    app = FastAPI(
        title="Lyceum",
        version="1",
        lifespan=lifespan,
        docs_url="/docs" if settings.api.docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if settings.api.docs else None,
    )
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1")
    return app
