"""The interactive API documentation, served from here: nothing is loaded from elsewhere, so it works offline too."""

from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from api.deps import public
from domain.errors import NotFound

router = APIRouter(prefix="/docs", include_in_schema=False, dependencies=[public])

_ASSETS = files("fastapi_offline") / "static"
_MEDIA_TYPES: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon.png": "image/png",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lyceum API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
});
"""
# Swagger UI sets style attributes and draws its icons from data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_DAY = "public, max-age=86400"


@router.get("")
async def page() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})


@router.get("/start.js")
async def start() -> Response:
    """What the page runs."""
    return Response(_START, media_type="text/javascript")


@router.get("/{name}")
async def asset(name: str) -> Response:
    """Swagger UI's own files."""
    if name not in _MEDIA_TYPES:
        raise NotFound("There is no such file.")
    return Response(_content(name), media_type=_MEDIA_TYPES[name], headers={"Cache-Control": _DAY})


@cache
def _content(name: str) -> bytes:
    return _ASSETS.joinpath(name).read_bytes()
