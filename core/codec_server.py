"""The codec server: shows operators in the Temporal UI what payloads say. `lyceum codec-server`.

The UI calls `POST /decode` (and `/encode`) with the bearer token the operator signed in with; the browser's origin must
be the UI's. Without a token nothing is decrypted, unless it serves one machine only (`LYCEUM_CODEC_SERVER__LOCAL`).
"""

import hmac
from collections.abc import Awaitable, Callable, Sequence

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.api.common.v1 import Payload, Payloads

from core import telemetry
from core.codec import KeyringCodec, UnknownKey
from core.settings import Settings, get_settings

_COOKIE = "lyceum_codec"
_MAX_FORM = 4096
"""Bytes; strangers may post the form."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_PAGE = """<!doctype html><html lang="en"><title>Codec server</title>
<style>body{font:1.1rem/1.5 system-ui;max-width:28rem;margin:15vh auto;padding:0 1rem}
input,button{font:inherit;padding:.5rem;width:100%%;margin:.3rem 0;box-sizing:border-box}</style>
<h1>Codec server</h1><p>%s</p><form method="post"><label>Operator token<input name="token" type="password" required
autocomplete="off"></label><button>Sign in</button></form></html>"""


class CodecServer:
    """Raises `ValueError` when codec keys or the operator token are missing, or it would be open to strangers."""

    def __init__(self, settings: Settings) -> None:
        server = settings.codec_server
        self._codec = KeyringCodec.parse(settings.temporal.codec_keys.get_secret_value())
        self._token = server.token.get_secret_value()
        self._origin = server.ui_origin or settings.temporal.ui_url
        self._local = server.local
        if not self._token:
            raise ValueError("LYCEUM_CODEC_SERVER__TOKEN is required")
        if server.local and (settings.environment == "production" or server.host not in _LOOPBACK):
            raise ValueError("LYCEUM_CODEC_SERVER__LOCAL is for loopback, and not for production")

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token.encode())

    def _signed_in(self, request: Request) -> bool:
        if self._local and request.headers.get("origin") == self._origin:
            return True
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        return self._is_token(bearer if scheme.lower() == "bearer" else request.cookies.get(_COOKIE, ""))

    async def decode(self, request: Request) -> Response:
        return await self._transform(request, self._codec.decode)

    async def encode(self, request: Request) -> Response:
        return await self._transform(request, self._codec.encode)

    async def _transform(
        self, request: Request, transform: Callable[[Sequence[Payload]], Awaitable[list[Payload]]]
    ) -> Response:
        if not self._signed_in(request):
            return JSONResponse({"message": "Sign in at the codec server first."}, status_code=401)
        try:
            payloads = json_format.Parse(await request.body(), Payloads())
            result = Payloads(payloads=await transform(payloads.payloads))
        except (json_format.ParseError, UnknownKey) as error:
            return JSONResponse({"message": str(error)}, status_code=400)
        return Response(json_format.MessageToJson(result), media_type="application/json")

    async def page(self, request: Request) -> Response:
        state = "You are signed in." if self._signed_in(request) else "Sign in to read payloads in the Temporal UI."
        return HTMLResponse(_PAGE % state)

    async def sign_in(self, request: Request) -> Response:
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MAX_FORM:
            return HTMLResponse(_PAGE % "That is too long for an operator token.", status_code=413)
        if not self._is_token(str((await request.form()).get("token", ""))):
            return HTMLResponse(_PAGE % "That is not the operator token.", status_code=401)
        response = RedirectResponse("/", status_code=303)
        secure = self._origin.startswith("https://")
        response.set_cookie(_COOKIE, self._token, httponly=True, samesite="strict", secure=secure, max_age=8 * 3600)
        return response


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def create_app(settings: Settings) -> Starlette:
    """The server behind the UI's `--ui-codec-endpoint`; only the UI's origin may call it from a browser."""
    server = CodecServer(settings)
    origin = settings.codec_server.ui_origin or settings.temporal.ui_url
    cors = Middleware(
        CORSMiddleware,
        allow_origins=[origin] if origin else [],
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type", "x-namespace"],
        allow_credentials=True,
    )
    return Starlette(
        routes=[
            Route("/", server.page),
            Route("/", server.sign_in, methods=["POST"]),
            Route("/decode", server.decode, methods=["POST"]),
            Route("/encode", server.encode, methods=["POST"]),
            Route("/healthz", _healthz),
        ],
        middleware=[Middleware(_with_headers), cors],
    )


def run() -> None:
    """`lyceum codec-server`."""
    settings = get_settings()
    telemetry.setup(settings, "codec-server")
    server = settings.codec_server
    uvicorn.run(create_app(settings), host=server.host, port=server.port, log_config=None, server_header=False)
