"""Which errors pass by themselves, and how they are logged."""

from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from structlog.stdlib import BoundLogger

from core.db import is_away
from domain.errors import ServiceUnavailable

LOST_BROKER = (OSError, TimeoutError, AMQPError, ChannelInvalidStateError)
"""What a RabbitMQ that went away looks like from here."""

_NOT_PASSING = (FileNotFoundError, PermissionError, LookupError)
"""Operating system errors that are bugs (a missing template is one of them)."""


def is_transient(error: Exception, also: tuple[type[Exception], ...] = ()) -> bool:
    """Whether trying again later may work."""
    if isinstance(error, also) or is_away(error):
        return True
    return isinstance(error, (*LOST_BROKER, ServiceUnavailable)) and not isinstance(error, _NOT_PASSING)


def log_failure(log: BoundLogger, what: str, error: Exception, **fields: object) -> None:
    """A server that went away is one line; anything else is a bug and keeps its traceback."""
    if is_transient(error):
        log.warning(what, error=type(error).__name__, **fields)
    else:
        log.error(what, error=type(error).__name__, exc_info=error, **fields)
