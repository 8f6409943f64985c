"""The OpenSearch client: one pool per process, short timeouts, and this project's errors."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from opensearchpy import AsyncOpenSearch, NotFoundError, RequestError, TransportError

from core.settings import OpenSearchSettings
from domain.errors import ServiceUnavailable

_CONNECTIONS = 32


class SearchUnavailable(ServiceUnavailable):
    """OpenSearch does not answer, refuses work, or answers in a way that only an operator can mend."""

    title = "Search is not available"


class IndexMissing(SearchUnavailable):
    """The index or alias does not exist (yet): it is built by `lyceum setup` and by the indexer."""


class QueryRefused(Exception):
    """OpenSearch calls the request itself malformed (400)."""


class _Orjson:
    """opensearch-py's serializer protocol; what is bytes already is sent as it is."""

    mimetype = "application/json"

    def loads(self, text: str) -> Any:
        return orjson.loads(text)

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, bytes) else orjson.dumps(data)


class SearchClient:
    """Speaks to OpenSearch; connects on first use."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        # The library logs every request at INFO and every refused one with a traceback.
        logging.getLogger("opensearch").setLevel(logging.ERROR)
        self.settings = settings
        self._client = AsyncOpenSearch(
            hosts=[settings.url.get_secret_value() or "http://127.0.0.1:9200"],
            serializer=_Orjson(),
            timeout=settings.timeout,
            max_retries=1,
            retry_on_timeout=False,
            retry_on_status=(),
            pool_maxsize=_CONNECTIONS,
        )

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The decoded answer. `timeout` (seconds) replaces the configured one.

        Raises `SearchUnavailable` (`IndexMissing` for a 404) and `QueryRefused`. A connection that breaks is tried a
        second time, so a write must be repeatable.
        """
        options: dict[str, Any] = dict(params or {})
        if timeout is not None:
            options["request_timeout"] = timeout
        try:
            return await self._client.transport.perform_request(method, path, params=options, body=body)
        except NotFoundError as error:
            raise IndexMissing("The search index is being built.") from error
        except RequestError as error:
            raise QueryRefused(str(error)) from error
        except TransportError as error:
            raise SearchUnavailable("Search does not answer at the moment.") from error

    async def ping(self) -> None:
        """Raises `SearchUnavailable` unless OpenSearch answers."""
        await self.request("GET", "/")

    async def close(self) -> None:
        await self._client.close()
