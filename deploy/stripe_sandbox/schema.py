"""The OpenAPI subset the sandbox is checked against."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

JSON = dict[str, Any]
_REF = "#/components/schemas/"


@lru_cache
def document() -> JSON:
    """The whole subset, read once."""
    loaded: JSON = json.loads((Path(__file__).parent / "data" / "openapi.json").read_bytes())
    return loaded


def api_version() -> str:
    """Stripe's API version the subset was made from, e.g. `2026-10-28.endive`."""
    version: str = document()["info"]["version"]
    return version


def component(name: str) -> JSON:
    schema: JSON = document()["components"]["schemas"][name]
    return schema


def resolve(schema: JSON) -> JSON:
    """Follow `$ref`."""
    while "$ref" in schema:
        schema = component(schema["$ref"].removeprefix(_REF))
    return schema


def operation(method: str, path: str) -> JSON:
    """The subset's entry for `POST /v1/refunds`. KeyError when the subset has none."""
    entry: JSON = document()["paths"][path][method.lower()]
    return entry


def parameters(method: str, path: str) -> JSON:
    """The schema of the parameters an operation takes, from its query or its form body."""
    entry = operation(method, path)
    if "requestBody" in entry:
        body: JSON = entry["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
        return body
    query: JSON = entry.get("x-queryParams", {"type": "object", "additionalProperties": False})
    return query


def reply(method: str, path: str) -> JSON:
    """The schema of the successful reply of an operation."""
    schema: JSON = operation(method, path)["responses"]["200"]["content"]["application/json"]["schema"]
    return schema
