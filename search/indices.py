"""The indices behind the course search: their names, aliases and versioned writes.

An index is called `{prefix}-courses-v{mapping version}-{when}`. Readers use the alias `{prefix}-courses`, which points
to exactly one. Writers write to every index that has a `…-write` alias of its own, so that during a rebuild both the
old and the new one hear of each change; writing through that alias means that a write to an index deleted a moment
ago fails instead of creating an index of that name.

Documents carry the course's row version, and an older write changes nothing, so writers need not agree on an order. A
course that is not published any more leaves an empty document: OpenSearch forgets the version of a deleted one after a
while, and deleting creates an index that is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from core.settings import OpenSearchSettings
from search.client import SearchClient, SearchUnavailable
from search.documents import Entry
from search.mappings import EVERY_COURSE, MAPPINGS, SETTINGS, VERSION

_ADMIN_TIMEOUT = 30.0
_BULK_TIMEOUT = 30.0


def read_alias(settings: OpenSearchSettings) -> str:
    return f"{settings.index_prefix}-courses"


def _write_alias(index: str) -> str:
    return f"{index}-write"


async def create(client: SearchClient, at: datetime) -> str:
    """A new, empty index that writers find at once and readers do not see."""
    index = f"{read_alias(client.settings)}-v{VERSION}-{at:%Y%m%d%H%M%S%f}"
    body = {"settings": SETTINGS, "mappings": MAPPINGS, "aliases": {_write_alias(index): {}}}
    await client.request("PUT", f"/{index}", body, timeout=_ADMIN_TIMEOUT)
    return index


@dataclass(frozen=True, slots=True)
class Layout:
    """`current` is what readers use, None before the first build; `writable` must hear of each change."""

    current: str | None
    writable: list[str]
    unused: list[str]

    @property
    def outdated(self) -> bool:
        """Readers have no index, or one of another shape than this release's."""
        return self.current is None or f"-v{VERSION}-" not in self.current


async def layout(client: SearchClient) -> Layout:
    """Which course indices there are, and what for."""
    alias = read_alias(client.settings)
    found = await client.request("GET", f"/{alias}-v*/_alias")
    current = next((index for index, state in found.items() if alias in state["aliases"]), None)
    return Layout(
        current,
        sorted(index for index, state in found.items() if _write_alias(index) in state["aliases"]),
        sorted(index for index in found if index != current),
    )


async def publish(client: SearchClient, index: str) -> None:
    """Points readers to `index` instead of the one before, in one step."""
    alias = read_alias(client.settings)
    before = (await layout(client)).current
    actions: list[dict[str, Any]] = [{"add": {"index": index, "alias": alias}}]
    if before is not None:
        actions.append({"remove": {"index": before, "alias": alias}})
    await client.request("POST", "/_aliases", {"actions": actions}, timeout=_ADMIN_TIMEOUT)


async def drop_unused(client: SearchClient) -> list[str]:
    """Deletes every course index that readers do not use: replaced, or left by an interrupted rebuild."""
    unused = (await layout(client)).unused
    for index in unused:
        await client.request("DELETE", f"/{index}", params={"ignore_unavailable": "true"}, timeout=_ADMIN_TIMEOUT)
    return unused


async def refresh(client: SearchClient, index: str) -> None:
    """Makes everything written so far visible to searches."""
    await client.request("POST", f"/{index}/_refresh", timeout=_ADMIN_TIMEOUT)


async def count(client: SearchClient, index: str) -> int:
    """Courses visible to searches."""
    answer = await client.request("POST", f"/{index}/_count", {"query": EVERY_COURSE})
    return int(answer["count"])


async def write(client: SearchClient, targets: Sequence[str], entries: Sequence[Entry]) -> None:
    """Brings `targets` to what `entries` say, unless they know better already.

    Raises `SearchUnavailable` and `DocumentRefused`.
    """
    lines: list[bytes] = []
    for entry in entries:
        for index in targets:
            where = {
                "_index": _write_alias(index),
                "_id": str(entry.id),
                "version": entry.version,
                "version_type": "external_gte",
                "require_alias": True,
            }
            lines += orjson.dumps({"index": where}), orjson.dumps(entry.document or {})
    if lines:
        answer = await client.request("POST", "/_bulk", b"\n".join(lines) + b"\n", timeout=_BULK_TIMEOUT)
        if answer["errors"]:
            _check(answer["items"])


class DocumentRefused(Exception):
    """OpenSearch will never take this document: the mapping and the document disagree."""


def _check(items: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Two refusals are fine: the index has something newer, or it was replaced by one that heard of the change."""
    for item in items:
        for result in item.values():
            error = result.get("error")
            if not error or result["status"] == 409 or error["type"] == "index_not_found_exception":
                continue
            message = f"{error['type']}: {error['reason']}"
            if result["status"] == 429 or result["status"] >= 500:
                raise SearchUnavailable(message)
            raise DocumentRefused(message)
