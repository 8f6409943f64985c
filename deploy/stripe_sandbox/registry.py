"""Which function answers which operation of the API, and which runs which job."""

from collections.abc import Callable

from deploy.stripe_sandbox.context import Context
from deploy.stripe_sandbox.schema import JSON

Handler = Callable[..., JSON]
Job = Callable[[Context, str], None]

HANDLERS: dict[tuple[str, str], tuple[Handler, frozenset[str]]] = {}
"""Operations, and the parameters each of them acts on besides `expand`; others are refused by name."""
JOBS: dict[str, Job] = {}


def api(method: str, path: str, *takes: str) -> Callable[[Handler], Handler]:
    """Answer an operation, which `takes` these parameters: called as `handler(ctx, params, **path_parameters)` inside
    a transaction."""

    def register(handler: Handler) -> Handler:
        HANDLERS[method, path] = handler, frozenset(takes)
        return handler

    return register


def job(kind: str) -> Callable[[Job], Job]:
    """Run a scheduled job: called as `job(ctx, subject)` inside a transaction."""

    def register(run: Job) -> Job:
        JOBS[kind] = run
        return run

    return register
