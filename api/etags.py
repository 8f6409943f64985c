"""Entity tags made of a row's version: no change overwrites another unseen, no answer is sent twice."""

import re
from typing import Annotated, Final

from fastapi import Depends, Header

from domain.errors import FieldError, Invalid

_TAG: Final = re.compile(r'(?:W/)?"(\d{1,9})"')


class InvalidEntityTag(Invalid):
    title = "The entity tag is not valid"


def etag(version: int) -> str:
    """The ETag header of this version."""
    return f'"{version}"'


async def expected_version(
    if_match: Annotated[str | None, Header(description="The ETag the change is made for.", max_length=64)] = None,
) -> int | None:
    """The version an `If-Match` header asks for; None when any will do. Raises `InvalidEntityTag`."""
    if if_match is None or if_match.strip() == "*":
        return None
    match = _TAG.fullmatch(if_match.strip())
    if match is None:
        message = "One ETag as it was answered is expected."
        raise InvalidEntityTag(message, errors=[FieldError("If-Match", message, "invalid_etag")])
    return int(match[1])


Expected = Annotated[int | None, Depends(expected_version)]
"""The version of the course that a change is made for; None: whatever it is."""


def is_current(if_none_match: str | None, version: int) -> bool:
    """Whether an `If-None-Match` header names this version."""
    return if_none_match is not None and str(version) in _TAG.findall(if_none_match)
