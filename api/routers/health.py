"""Whether the process lives, whether it can serve, and its metrics. Not for the public: the ingress leaves them out."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.deps import Container, public
from core.health import failing

router = APIRouter(tags=["operations"], include_in_schema=False, dependencies=[public])


@router.get("/healthz")
async def healthz() -> JSONResponse:
    """The event loop runs."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(container: Container) -> JSONResponse:
    """503 while PostgreSQL is away. The other services are reported; without them the rest still works."""
    errors = await failing(container.checks())
    ready = "database" not in errors
    status = "unavailable" if not ready else "degraded" if errors else "ok"
    return JSONResponse({"status": status, "failing": errors}, status_code=200 if ready else 503)


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
