import asyncpg
import pytest
from jinja2 import TemplateNotFound
from sqlalchemy import exc

from core.messaging.failures import is_transient
from domain.errors import NotFound, ServiceUnavailable


def _wrapped(origin: BaseException) -> exc.DBAPIError:
    return exc.DBAPIError("select 1", {}, origin)


def _translated(cause: BaseException) -> exc.DBAPIError:
    """As SQLAlchemy's dialect does with what the driver raises."""
    origin = Exception(str(cause))
    origin.__cause__ = cause
    return _wrapped(origin)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        OSError(113, "No route to host"),
        TimeoutError(),
        ServiceUnavailable("later"),
        exc.TimeoutError("the pool is empty"),
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.AdminShutdownError(),
        asyncpg.InterfaceError("connection is closed"),
        _wrapped(asyncpg.CannotConnectNowError()),
        _wrapped(asyncpg.DeadlockDetectedError()),
        _wrapped(asyncpg.QueryCanceledError()),
        _wrapped(asyncpg.InterfaceError("connection is closed")),
        _translated(asyncpg.InternalClientError("the server went away between two messages")),
        exc.DBAPIError("select 1", {}, Exception(), connection_invalidated=True),
    ],
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        ValueError("x"),
        FileNotFoundError("x"),
        TemplateNotFound("mail.txt.j2"),
        NotFound("x"),
        asyncpg.ClientConfigurationError("x"),
        _translated(asyncpg.ClientConfigurationError("x")),
        _wrapped(asyncpg.UniqueViolationError()),
        _wrapped(asyncpg.UndefinedTableError()),
        exc.OperationalError("select 1", {}, asyncpg.UndefinedTableError()),
    ],
)
def test_what_is_a_bug(error: Exception) -> None:
    assert not is_transient(error)


def test_a_handler_may_name_more() -> None:
    assert is_transient(KeyError("x"), also=(KeyError,))
