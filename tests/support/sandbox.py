"""The Stripe sandbox's controls, for one account."""

from typing import Any

import httpx2

from core.settings import Settings

PAYS_LATER, FAILS_LATER = "000123456789", "000222222227"
"""Bank accounts: the session is complete and unpaid, until the clock has moved by three minutes."""


class Sandbox:
    """`settings` name the account; nothing here touches another's."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.http = httpx2.AsyncClient(
            base_url=settings.stripe.api_base,
            headers={"Authorization": f"Bearer {settings.stripe.secret_key.get_secret_value()}"},
            timeout=30,
        )

    async def _call(self, method: str, path: str, body: object = None) -> Any:
        response = await self.http.request(method, f"/_sandbox{path}", json=body)
        if response.status_code >= 400:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        return response.json() if response.content else None

    async def listen(self) -> None:
        """Has all events delivered to the settings' API."""
        await self._call(
            "PUT",
            "/endpoints",
            {
                "url": f"{self._settings.api.public_url}/webhooks/stripe",
                "secret": self._settings.stripe.webhook_secrets.get_secret_value(),
            },
        )

    async def pay(self, checkout_url: str, **options: Any) -> int:
        """Pays a payment page, with a good card or with `card`; the status a browser would see (402 for a declined
        card)."""
        session_id = checkout_url.rsplit("/", 1)[-1].partition("#")[0]
        body = {"card": "4242424242424242", **options}
        response = await self.http.post(f"/_sandbox/checkout/{session_id}/pay", json=body)
        status: int = response.status_code
        return status

    async def advance(self, seconds: float) -> None:
        await self._call("POST", "/clock", {"advance_seconds": seconds})

    async def fault(self, method: str, path: str, mode: str, times: int = 1, **options: Any) -> None:
        await self._call(
            "POST", "/faults", {"match": {"method": method, "path": path}, "mode": mode, "times": times, **options}
        )

    async def deliveries(self, **faults: Any) -> None:
        """Sets how webhooks misbehave; without arguments they behave."""
        await self._call("PUT", "/webhooks", faults)

    async def delivered(self) -> bool:
        """Whether no webhook waits for a (next) try."""
        found = await self._call("GET", "/webhooks")
        return bool(found["deliveries"]["pending"] == 0)

    async def redeliver(self) -> None:
        await self._call("POST", "/webhooks/redeliver", {})

    async def requests(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._call("GET", f"/requests?path={path}")
        return found

    async def balance_transactions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await self._call("GET", "/balance_transactions")
        return found

    async def aclose(self) -> None:
        await self.http.aclose()
