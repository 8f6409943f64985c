"""`lyceum api`: serves the application with uvicorn, one process; more throughput is more of them."""

import uvicorn

from api.app import create_app
from core import telemetry
from core.settings import get_settings

_BACKLOG = 2048
_MAX_CONNECTIONS = 1000
"""Beyond it the server answers 503 at once: waiting clients cost memory and end in timeouts anyway."""
_GRACE = 20


def run() -> None:
    """Serves until SIGTERM or SIGINT, then finishes running requests for up to 20 s."""
    settings = get_settings()
    telemetry.setup(settings, "api")
    config = uvicorn.Config(
        create_app(settings),
        host=settings.api.host,
        port=settings.api.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE,
    )
    uvicorn.Server(config).run()
