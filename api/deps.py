"""What routes ask for: a transaction, the container, and who is calling with which permission."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.ext.asyncio import AsyncSession

from api.container import AppContainer
from domain.identity import Permission, Principal, Unauthenticated

_bearer = HTTPBearer(auto_error=False, scheme_name="accessToken", bearerFormat="JWT")


async def _container(request: Request) -> AppContainer:
    container: AppContainer = request.app.state.container
    return container


Container = Annotated[AppContainer, Depends(_container)]


async def _transaction(container: Container) -> AsyncIterator[AsyncSession]:
    async with container.db.transaction() as session:
        yield session


async def _read(container: Container) -> AsyncIterator[AsyncSession]:
    async with container.db.read() as session:
        yield session


# The function scope ends a transaction before the response is sent: a commit that fails is an error the client sees.
Tx = Annotated[AsyncSession, Depends(_transaction, scope="function")]
"""The request's transaction: committed before the response is sent, rolled back when the route raises."""

ReadTx = Annotated[AsyncSession, Depends(_read, scope="function")]
"""A read-only session."""


async def _principal(
    container: Container, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
) -> Principal | None:
    """Who calls, or None without a token; a token that is not good is refused."""
    if credentials is None:
        return None
    claims = container.tokens.read_access(credentials.credentials)
    principal = await container.access.principal(claims.user_id, claims.session_id)
    if principal is None:
        raise Unauthenticated("The session has ended. Sign in again.")
    structlog.contextvars.bind_contextvars(user_id=str(principal.user_id))
    return principal


@dataclass(frozen=True)
class Requires:
    """The dependency behind `requires`; tests find it on routes by its type."""

    permission: Permission

    async def __call__(self, principal: Annotated[Principal | None, Depends(_principal)]) -> Principal:
        if principal is None:
            raise Unauthenticated("Send an access token: `Authorization: Bearer …`.")
        principal.require(self.permission)
        return principal


def requires(permission: Permission) -> Any:
    """`principal: Annotated[Principal, requires(Permission.X)]`: signed in and allowed X, or 401 / 403."""
    return Depends(Requires(permission))


async def anonymous() -> None:
    """Marks a route that needs no sign-in."""


public: Any = Depends(anonymous)
"""`dependencies=[public]` says that a route needs no sign-in."""

optional_principal: Any = Depends(_principal)
"""`caller: Annotated[Principal | None, optional_principal]` on a public route that shows more to some."""


def whose(principal: Principal) -> UUID | None:
    """Whose orders and enrollments the caller may see; None for everybody's."""
    return None if principal.can(Permission.PROCESS_READ) else principal.user_id
