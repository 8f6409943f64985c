"""Walks every route: each says who may call it, and says it before it costs anything."""

from collections.abc import Iterator

import httpx2
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from api.deps import Requires, anonymous
from api.pagination import MAX_LIMIT
from domain.identity import ROLE_PERMISSIONS, Permission, Role
from tests.api.conftest import MakeUser

_DOCUMENTATION = {"/openapi.json"}

PUBLIC = {
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/verify-email"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/refresh"),
    ("GET", "/v1/search/courses"),
    ("GET", "/v1/courses/{course_id}"),
    ("GET", "/v1/courses/{course_id}/outline"),
    ("POST", "/webhooks/stripe"),
    ("GET", "/docs"),
    ("GET", "/docs/start.js"),
    ("GET", "/docs/{name}"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/verify-email"),
    ("POST", "/verify-email"),
}
"""Whatever is added here is open to the whole internet."""


def _contexts(app: FastAPI) -> list[RouteContext]:
    return [context for context in iter_route_contexts(app.routes) if context.path not in _DOCUMENTATION]


def _called(dependant: Dependant) -> Iterator[object]:
    for child in dependant.dependencies:
        yield child.call
        yield from _called(child)


def _operations(app: FastAPI) -> Iterator[tuple[str, str, Dependant]]:
    for context in _contexts(app):
        assert isinstance(context.original_route, APIRoute), f"{context.path} is not a FastAPI route"
        for method in context.methods or ():
            yield method, context.path or "", context.dependant


def test_every_route_declares_a_permission_or_is_public(app: FastAPI) -> None:
    public, undeclared, both = set(), set(), set()
    for method, path, dependant in _operations(app):
        calls = list(_called(dependant))
        demanded = [call for call in calls if isinstance(call, Requires)]
        if anonymous in calls:
            public.add((method, path))
        if not demanded and anonymous not in calls:
            undeclared.add((method, path))
        if demanded and anonymous in calls:
            both.add((method, path))
    assert undeclared == set()
    assert both == set()
    assert public == PUBLIC


def test_every_permission_but_those_checked_deeper_guards_a_route(app: FastAPI) -> None:
    demanded = {
        call.permission
        for _, _, dependant in _operations(app)
        for call in _called(dependant)
        if isinstance(call, Requires)
    }
    assert Permission.COURSE_MANAGE not in demanded  # asked inside, about somebody else's course
    assert demanded == set(Permission) - {Permission.COURSE_MANAGE}


async def test_routes_that_demand_a_permission_refuse_strangers_and_the_wrong_roles(
    app: FastAPI, client: httpx2.AsyncClient, make_user: MakeUser
) -> None:
    headers = {role: await make_user(role) for role in Role}
    holders = {Role.STUDENT: (Role.STUDENT,), Role.TEACHER: (Role.STUDENT, Role.TEACHER), Role.ADMIN: (Role.ADMIN,)}
    for method, path, dependant in _operations(app):
        demanded = [call.permission for call in _called(dependant) if isinstance(call, Requires)]
        if not demanded:
            continue
        url = path.replace("{", "").replace("}", "")
        stranger = await client.request(method, url)
        assert (stranger.status_code, stranger.json()["code"]) == (401, "Unauthenticated"), (method, path)
        for role, given in headers.items():
            granted = set().union(*(ROLE_PERMISSIONS[held] for held in holders[role]))
            if not granted.issuperset(demanded):
                answer = await client.request(method, url, headers=given)
                assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied"), (method, path, role)


async def test_methods_a_path_does_not_have_are_refused(client: httpx2.AsyncClient) -> None:
    for method in ("TRACE", "CONNECT", "DELETE", "PUT"):
        answer = await client.request(method, "/v1/auth/login")
        assert (answer.status_code, answer.json()["code"]) == (405, "MethodNotAllowed")
        assert answer.headers["allow"] == "POST"


def test_the_document_names_every_refusal_and_where_a_token_is_needed(app: FastAPI) -> None:
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            expected = {"400", "404", "409", "413", "422", "429", "503"}
            if (method.upper(), path) not in PUBLIC:
                assert operation["security"] == [{"accessToken": []}], (method, path)
            if "security" in operation:
                expected |= {"401", "403"}
            assert expected <= operation["responses"].keys(), (method, path)
            assert operation["responses"]["422"] == {"$ref": "#/components/responses/Problem422"}
    problem = document["components"]["schemas"]["Problem"]
    assert set(problem["required"]) == {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "instance",
        "errors",
        "request_id",
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_lists_are_paged_with_a_limit_of_at_most_100(app: FastAPI) -> None:
    for path, operations in app.openapi()["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            if parameter["name"] == "limit":
                assert parameter["schema"]["maximum"] <= MAX_LIMIT, path
                assert parameter["schema"]["minimum"] == 1, path


def test_request_bodies_refuse_unknown_fields(app: FastAPI) -> None:
    document = app.openapi()
    bodies = {
        content["schema"]["$ref"].rpartition("/")[2]
        for operations in document["paths"].values()
        for operation in operations.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    assert bodies
    for name in bodies:
        assert document["components"]["schemas"][name].get("additionalProperties") is False, name
