"""The OpenAPI document: FastAPI's own, plus the refusals every operation may answer with."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import Problem, ProblemField
from api.routes import operations

_REFUSALS = {
    "400": "The request cannot be read, e.g. the body is not JSON",
    "401": "No access token, or one that is not valid any more",
    "403": "Signed in, but not allowed",
    "404": "There is no such thing, or not for this user",
    "409": "The current state does not allow it; `code` says why",
    "412": "The course has changed since the version that `If-Match` names",
    "413": "The body is too large",
    "422": "A field is missing or wrong; `errors` names it",
    "429": "Too many attempts; `Retry-After` says when to come back",
    "431": "The headers are too large",
    "503": "A backing service does not answer, or too many requests run; `Retry-After` says when to come back",
}
_SIGNED_IN_ONLY = {"401", "403"}  # unless the route declares them: `responses=refusing(401)`
_WAIT = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 0}}}


def refusing(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a public route's `responses`: it may answer these refusals although it asks for no token."""
    return {status: {"description": _REFUSALS[str(status)]} for status in statuses}


def install(app: FastAPI) -> None:
    """Replaces `app.openapi`; the document is made once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    reference = "#/components/schemas/{model}"
    schemas["ProblemField"] = ProblemField.model_json_schema()
    schemas["Problem"] = Problem.model_json_schema(ref_template=reference)
    schemas["Problem"].pop("$defs")
    components["responses"] = {f"Problem{status}": _response(status, text) for status, text in _REFUSALS.items()}
    for route in operations(app):
        operation = document["paths"].get(route.path, {}).get(route.method.lower())
        if operation is not None:
            _add_refusals(operation)
            if route.public and "security" in operation:
                operation["security"] = [{}, *operation["security"]]
    return document


def _response(status: str, description: str) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    return response | ({"headers": _WAIT} if status in ("429", "503") else {})


def _add_refusals(operation: dict[str, Any]) -> None:
    conditional = any(parameter["name"] == "if-match" for parameter in operation.get("parameters", ()))
    for status in _REFUSALS:
        if status == "412" and not conditional:
            continue
        if "security" in operation or status not in _SIGNED_IN_ONLY or status in operation["responses"]:
            operation["responses"][status] = {"$ref": f"#/components/responses/Problem{status}"}
