"""Request parameters: Stripe's bracketed forms, checked by validators compiled once from the OpenAPI subset.

A form carries only text, so checking and typing are one pass: `compile_params` turns a schema into a function from
decoded text to typed values that refuses what Stripe refuses, in Stripe's words.
"""

import re
from collections.abc import Callable, Collection
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from deploy.stripe_sandbox import schema
from deploy.stripe_sandbox.errors import StripeError, invalid
from deploy.stripe_sandbox.schema import JSON

Check = Callable[[Any, str], Any]
_EMPTY = (
    "You passed an empty string for '{0}'. We assume empty values are an attempt to unset a field; however '{0}' "
    "cannot be unset. You should remove '{0}' from your request or supply a non-empty value."
)
_MAX_DEPTH = 8
_INTEGER = re.compile(r"-?[0-9]{1,18}")  # SQLite holds no more
_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,12})?")
_INDEX = re.compile(r"[0-9]{1,9}")
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def decode(text: bytes) -> JSON:
    """`a[b][0]=x` as nested dictionaries of text; arrays are dictionaries with numbers for keys until typed."""
    try:
        pairs = parse_qsl(text.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        raise invalid("The request is not valid UTF-8.") from None
    root: JSON = {}
    for name, value in pairs:
        head, *rest = name.replace("]", "").split("[")
        if len(rest) > _MAX_DEPTH:
            raise invalid(f"Invalid parameter name: {name}", param=name)
        node, key = root, head
        for part in rest:
            inner = node.setdefault(key, {})
            if not isinstance(inner, dict):
                raise invalid(f"Invalid object: {key}", param=name)
            node, key = inner, part or str(len(inner))
        node[key] = value
    return root


@cache
def compile_params(method: str, path: str, takes: frozenset[str]) -> Check:
    """The validator of one operation of the subset, which `takes` these parameters; an emptied value becomes None."""
    return _object(schema.resolve(schema.parameters(method, path)), takes | {"expand"})


def only(params: JSON, takes: Collection[str], where: str) -> None:
    """Refuse by name what would be ignored of the object at `where`."""
    for name in params:
        if name not in takes:
            _unsupported(None, f"{where}[{name}]")


def _unsupported(_: Any, where: str) -> None:
    raise invalid(f"The sandbox does not support {where}.", param=where)


def _compile(node: JSON) -> Check:
    node = schema.resolve(node)
    if "anyOf" in node:
        return _any_of([_compile(variant) for variant in node["anyOf"]], [schema.resolve(v) for v in node["anyOf"]])
    kind, known = node.get("type"), node.get("enum") or node.get("x-knownValues", ())
    if "enum" in node or any(known):
        return _enum(known)
    if kind == "object":
        return _object(node)
    if kind == "array":
        return _array(_compile(node.get("items", {})))
    if kind == "string" and "" in known:
        return _optional
    return {"integer": _integer, "number": _number, "boolean": _boolean, "string": _string}.get(str(kind), _anything)


def _object(node: JSON, takes: Collection[str] | None = None) -> Check:
    fields = {name: _field(name, child, takes) for name, child in node.get("properties", {}).items()}
    required = tuple(node.get("required", ()))
    extra = node.get("additionalProperties", True)
    other = _text if extra == {"type": "string"} else None if extra is False else _anything

    def check(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise invalid("Invalid object", param=where)
        typed = {}
        for name, child in value.items():
            at = f"{where}[{name}]" if where else name
            validator = fields.get(name, other)
            if validator is None:
                raise invalid(f"Received unknown parameter: {at}", code="parameter_unknown", param=at)
            typed[name] = validator(child, at)
        for name in required:
            if name not in typed:
                at = f"{where}[{name}]" if where else name
                raise invalid(f"Missing required param: {at}.", code="parameter_missing", param=at)
        return typed

    return check


def _field(name: str, node: JSON, takes: Collection[str] | None) -> Check:
    if takes is not None and name not in takes:
        return _unsupported
    return _email(_lazy(node)) if name.endswith("email") else _lazy(node)


def _email(text: Check) -> Check:
    def check(value: Any, where: str) -> Any:
        typed = text(value, where)
        if typed is not None and not EMAIL.fullmatch(typed):
            raise invalid(f"Invalid email address: {typed}", code="email_invalid", param=where)
        return typed

    return check


def _lazy(node: JSON) -> Check:
    """Compile on first use: most of the subset's parameters are never sent."""
    compiled: Check | None = None

    def check(value: Any, where: str) -> Any:
        nonlocal compiled
        compiled = compiled or _compile(node)
        return compiled(value, where)

    return check


def _array(item: Check) -> Check:
    def check(value: Any, where: str) -> Any:
        if not isinstance(value, dict) or not all(_INDEX.fullmatch(key) for key in value):
            raise invalid("Invalid array", param=where)
        return [item(value[key], f"{where}[{key}]") for key in sorted(value, key=int)]

    return check


def _any_of(checks: list[Check], nodes: list[JSON]) -> Check:
    def check(value: Any, where: str) -> Any:
        first: StripeError | None = None
        nested = isinstance(value, dict)
        for variant, node in zip(checks, nodes, strict=True):
            if nested != (node.get("type") in ("object", "array")):
                continue
            try:
                return variant(value, where)
            except StripeError as error:
                first = first or error
        raise first or invalid("Invalid value", param=where)

    return check


def _enum(values: list[Any]) -> Check:
    allowed = {str(value).lower() if isinstance(value, bool) else str(value): value for value in values}

    def check(value: Any, where: str) -> Any:
        if not isinstance(value, str) or value not in allowed:
            choices = ", ".join(filter(None, allowed)) or "empty"
            raise invalid(f"Invalid {where}: must be one of {choices}", param=where)
        return None if value == "" else allowed[value]

    return check


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise invalid("Invalid string", param=where)
    return value


def _filled(value: Any, where: str) -> str:
    if not (text := _text(value, where)):
        raise invalid(_EMPTY.format(where), code="parameter_invalid_empty", param=where)
    return text


def _optional(value: Any, where: str) -> str | None:
    return None if value == "" else _string(value, where)


def _string(value: Any, where: str) -> str:
    text = _filled(value, where)
    if len(text) > 5000:
        raise invalid(
            f"Invalid string: {text[:10]}...{text[-5:]}; must be at most 5000 characters",
            code="parameter_invalid_string",
            param=where,
        )
    return text


def _integer(value: Any, where: str) -> int:
    text = _filled(value, where)
    if not _INTEGER.fullmatch(text):
        raise invalid(f"Invalid integer: {text[:40]}", code="parameter_invalid_integer", param=where)
    return int(text)


def _number(value: Any, where: str) -> float:
    text = _filled(value, where)
    if not _DECIMAL.fullmatch(text):
        raise invalid(f"Invalid decimal: {text[:40]}", param=where)
    return float(text)


def _boolean(value: Any, where: str) -> bool:
    text = _filled(value, where)
    if text not in ("true", "false"):
        raise invalid(f"Invalid boolean: {text}", param=where)
    return text == "true"


def _anything(value: Any, where: str) -> Any:
    return value
