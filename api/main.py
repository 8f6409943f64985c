"""`lyceum api`: serves the application with uvicorn, one process; more throughput is more of them."""

import uvicorn

from api.app import create_app
from api.server import configuration
from core import telemetry
from core.settings import get_settings


def run() -> None:
    """Serves until SIGTERM or SIGINT, then finishes running requests for up to 20 s."""
    settings = get_settings()
    telemetry.setup(settings, "api")
    uvicorn.Server(configuration(create_app(settings), settings.api)).run()
