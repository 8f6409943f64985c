"""Reads the mail catcher."""

from types import TracebackType

import httpx2


class Mailbox:
    """Mail as the platform sent it."""

    def __init__(self, url: str) -> None:
        self._http = httpx2.Client(base_url=url, timeout=10)

    def __enter__(self) -> "Mailbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def to(self, address: str) -> list[dict[str, str]]:
        """Messages to `address`, oldest first: from, to, subject, text, html."""
        found: list[dict[str, str]] = self._http.get("/api/messages", params={"to": address}).raise_for_status().json()
        return found
