"""The application over the session's own database and the stack's servers, and users to call it as."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from api.app import create_app
from api.container import AppContainer
from core.db import Database
from core.settings import Settings
from domain.identity import Role
from tests.support.accounts import Account, sign_in

MakeUser = Callable[..., Awaitable[dict[str, str]]]
MakeAccount = Callable[..., Awaitable[Account]]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    """An application with its lifespan, and a client that calls it in this process."""
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://api.test") as client,
    ):
        yield app, client


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Unconfigured, structlog draws every frame with its variables, which takes seconds for each expected failure."""
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()])
    yield
    structlog.configure(processors=before)


@pytest.fixture(scope="session")
async def served(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx2.AsyncClient]]:
    async with serving(settings) as both:
        yield both


@pytest.fixture(scope="session")
def app(served: tuple[FastAPI, httpx2.AsyncClient]) -> FastAPI:
    return served[0]


@pytest.fixture(scope="session")
def client(served: tuple[FastAPI, httpx2.AsyncClient]) -> httpx2.AsyncClient:
    """Calls the application; `await client.get("/v1/me", headers=await make_user())`."""
    return served[1]


@pytest.fixture(scope="session")
def container(app: FastAPI) -> AppContainer:
    found: AppContainer = app.state.container
    return found


@pytest.fixture(scope="session")
def make_account(db: Database, container: AppContainer) -> MakeAccount:
    """`await make_account(Role.TEACHER, …)`: a signed-in user with ids and tokens."""

    async def make(*roles: Role) -> Account:
        return await sign_in(db, container.tokens, *roles)

    return make


@pytest.fixture(scope="session")
def make_user(make_account: MakeAccount) -> MakeUser:
    """`await make_user(role="teacher")`: the headers of a signed-in user; teachers are students too."""

    async def make(role: str = "student") -> dict[str, str]:
        roles = {Role.STUDENT, Role(role)} if role == "teacher" else {Role(role)}
        return (await make_account(*roles)).headers

    return make
