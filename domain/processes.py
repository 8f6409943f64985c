"""Processes: what is refused to whoever speaks to one."""

from domain.errors import Conflict, NotFound, ServiceUnavailable


class ProcessNotFound(NotFound):
    title = "No such process"


class ProcessEnded(Conflict):
    """The process is not running (any more)."""

    title = "The process has ended"


class ProcessStuck(ServiceUnavailable):
    """A step of the process keeps failing; it goes on by itself once the step succeeds."""

    title = "The process is held up"
