"""Walks every route: each says who may call it."""

import httpx2
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from api.pagination import MAX_LIMIT
from api.routes import operations
from domain.courses import CourseStatus
from domain.enrollments import EnrollmentStatus
from domain.identity import Permission, Role, TeacherRequestStatus, permissions_of
from domain.orders import OrderStatus
from domain.uploads import UploadStatus
from tests.api.conftest import MakeUser

PUBLIC = {
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/verify-email"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/refresh"),
    ("GET", "/v1/search/courses"),
    ("GET", "/v1/courses/{course_id}"),
    ("GET", "/v1/courses/{course_id}/outline"),
    ("POST", "/webhooks/stripe"),
    ("GET", "/checkout/{order_id}"),
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


def test_every_route_declares_a_permission_or_is_public(app: FastAPI) -> None:
    known = list(operations(app))
    assert [(op.method, op.path) for op in known if not op.permissions and not op.public] == []
    assert [(op.method, op.path) for op in known if op.permissions and op.public] == []
    assert {(op.method, op.path) for op in known if op.public} == PUBLIC


def test_nothing_but_the_document_escapes_that_rule(app: FastAPI) -> None:
    routes = iter_route_contexts(app.routes)
    assert {route.path for route in routes if not isinstance(route.original_route, APIRoute)} == {"/openapi.json"}


def test_every_permission_but_those_checked_deeper_guards_a_route(app: FastAPI) -> None:
    demanded = {permission for op in operations(app) for permission in op.permissions}
    assert demanded == set(Permission) - {Permission.COURSE_MANAGE}  # asked inside, about somebody else's course


async def test_routes_that_demand_a_permission_refuse_strangers_and_the_wrong_roles(
    app: FastAPI, client: httpx2.AsyncClient, make_user: MakeUser
) -> None:
    headers = {role: await make_user(role) for role in Role}
    held = {Role.STUDENT: [Role.STUDENT], Role.TEACHER: [Role.STUDENT, Role.TEACHER], Role.ADMIN: [Role.ADMIN]}
    for op in operations(app):
        if not op.permissions:
            continue
        url = op.path.replace("{", "").replace("}", "")
        stranger = await client.request(op.method, url)
        assert (stranger.status_code, stranger.json()["code"]) == (401, "Unauthenticated"), op
        for role, given in headers.items():
            if not permissions_of(held[role]).issuperset(op.permissions):
                answer = await client.request(op.method, url, headers=given)
                assert (answer.status_code, answer.json()["code"]) == (403, "PermissionDenied"), (op, role)


async def test_methods_a_path_does_not_have_are_refused(client: httpx2.AsyncClient) -> None:
    for method in ("TRACE", "CONNECT", "DELETE", "PUT"):
        answer = await client.request(method, "/v1/auth/login")
        assert (answer.status_code, answer.json()["code"]) == (405, "MethodNotAllowed")
        assert answer.headers["allow"] == "POST"
    several = await client.put("/v1/courses/0197c3a0-0000-7000-8000-000000000000")
    assert (several.status_code, several.headers["allow"]) == (405, "DELETE, GET, PATCH")


def test_the_document_names_every_refusal_and_where_a_token_is_needed(app: FastAPI) -> None:
    document = app.openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            expected = {"400", "404", "409", "413", "422", "429", "431", "503"}
            if (method.upper(), path) not in PUBLIC:
                assert operation["security"] == [{"accessToken": []}], (method, path)
            elif "security" in operation:
                assert operation["security"] == [{}, {"accessToken": []}], (method, path)
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
    for path, methods in app.openapi()["paths"].items():
        for parameter in methods.get("get", {}).get("parameters", ()):
            if parameter["name"] == "limit":
                assert parameter["schema"]["maximum"] <= MAX_LIMIT, path
                assert parameter["schema"]["minimum"] == 1, path


def test_request_bodies_refuse_unknown_fields(app: FastAPI) -> None:
    document = app.openapi()
    bodies = {
        content["schema"]["$ref"].rpartition("/")[2]
        for methods in document["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    assert bodies
    for name in bodies:
        assert document["components"]["schemas"][name].get("additionalProperties") is False, name


def test_clients_read_which_states_there_are(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    for name, states in (
        ("OrderRead", OrderStatus),
        ("EnrollmentRead", EnrollmentStatus),
        ("TeacherRequestRead", TeacherRequestStatus),
        ("CourseRead", CourseStatus),
        ("UploadRead", UploadStatus),
    ):
        status = schemas[name]["properties"]["status"]["$ref"].rpartition("/")[2]
        assert schemas[status]["enum"] == list(states)
