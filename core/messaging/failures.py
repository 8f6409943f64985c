"""Which errors pass by themselves, and how they are logged."""

import asyncpg
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from sqlalchemy import exc
from structlog.stdlib import BoundLogger

from domain.errors import ServiceUnavailable

LOST_BROKER = (OSError, TimeoutError, AMQPError, ChannelInvalidStateError)
"""What a RabbitMQ that went away looks like from here."""

_PASSING = (
    *LOST_BROKER,
    ServiceUnavailable,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server went away between two messages of a statement
    exc.TimeoutError,
    exc.InterfaceError,
    exc.OperationalError,
)
_NOT_PASSING = (FileNotFoundError, PermissionError, LookupError)
"""Operating system errors that are bugs (a missing template is one of them)."""

_PASSING_STATES = ("08", "25P03", "40", "53", "55P03", "57", "58")
"""SQLSTATEs: connection, rolled back by the server, out of resources, lock not available, intervention, I/O."""


def is_transient(error: Exception, also: tuple[type[Exception], ...] = ()) -> bool:
    """Whether trying again later may work."""
    if isinstance(error, also):
        return True
    if isinstance(error, _NOT_PASSING):
        return False
    if getattr(error, "connection_invalidated", False):
        return True
    # asyncpg's own errors carry the state themselves, SQLAlchemy's wrap them.
    state = getattr(error.orig if isinstance(error, exc.DBAPIError) else error, "sqlstate", None)
    return state.startswith(_PASSING_STATES) if state else isinstance(error, _PASSING)


def log_failure(log: BoundLogger, what: str, error: Exception, **fields: object) -> None:
    """A server that went away is one line; anything else is a bug and keeps its traceback."""
    if is_transient(error):
        log.warning(what, error=type(error).__name__, **fields)
    else:
        log.error(what, error=type(error).__name__, exc_info=error, **fields)
