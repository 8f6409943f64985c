"""Webhook deliveries: signed, retried until answered with 2xx, out of order and doubled when a test asks for it."""

import asyncio
import hashlib
import hmac
import logging
import random
from functools import partial

import aiohttp
import orjson

from deploy.stripe_sandbox.clock import Clock
from deploy.stripe_sandbox.faults import DeliveryFaults, Faults
from deploy.stripe_sandbox.schema import JSON
from deploy.stripe_sandbox.store import Store

RETRIES = (1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
"""Seconds between attempts. Stripe's grow to hours too, but start slower."""
_PARALLEL = 16
_TIMEOUT = aiohttp.ClientTimeout(total=10)
_OLD = 3600
_log = logging.getLogger(__name__)


def sign(payload: bytes, secret: str, timestamp: int) -> str:
    """The value of the `Stripe-Signature` header."""
    digest = hmac.new(secret.encode(), str(timestamp).encode() + b"." + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


class Deliverer:
    """Plans deliveries when events happen and makes them when they are due."""

    def __init__(self, store: Store, clock: Clock, faults: Faults) -> None:
        self._store = store
        self._clock = clock
        self._faults = faults
        self._in_flight: dict[int, asyncio.Task[None]] = {}
        self._results: list[tuple[str, int, float, int]] = []
        self._session: aiohttp.ClientSession | None = None
        self.changed = asyncio.Event()

    def plan(self, account: str, event: JSON) -> int:
        """Queue an event for every endpoint that wants it; answers how many there are. Call in the transaction that
        records the event."""
        endpoints = self._endpoints(account, event["type"])
        faults = self._faults.of_delivery(account)
        if endpoints and not _dropped(faults):
            for endpoint in endpoints:
                for _ in range(1 + faults.duplicate):
                    self._queue(account, event["id"], endpoint, faults)
        return len(endpoints)

    def redeliver(self, account: str | None, events: list[str] | None) -> int:
        """Send events once more, all of them or those named, untouched by faults; answers how many deliveries."""
        rows = self._store.execute(
            "select id, account, type from objects where object = 'event' and (?1 is null or account = ?1) "
            "and (?2 is null or id in (select value from json_each(?2))) order by seq",
            account,
            None if events is None else orjson.dumps(events).decode(),
        ).fetchall()
        queued = 0
        for event, owner, kind in rows:
            for endpoint in self._endpoints(owner, kind):
                self._queue(owner, event, endpoint, DeliveryFaults())
                queued += 1
        return queued

    def _endpoints(self, account: str, kind: str) -> list[str]:
        rows = self._store.execute(
            "select id, data -> 'enabled_events' from objects "
            "where object = 'webhook_endpoint' and account = ? and status = 'enabled'",
            account,
        ).fetchall()
        return [endpoint for endpoint, enabled in rows if {"*", kind} & set(orjson.loads(enabled))]

    def _queue(self, account: str, event: str, endpoint: str, faults: DeliveryFaults) -> None:
        jitter = random.random() if faults.reorder else 0.0  # noqa: S311
        forgery = "signature" if faults.bad_signature else "timestamp" if faults.old_timestamp else ""
        due = self._clock.wall() + faults.delay_seconds + jitter
        self._store.execute(
            "insert into deliveries (account, event, endpoint, due, forgery) values (?, ?, ?, ?, ?)",
            account,
            event,
            endpoint,
            due,
            forgery,
        )

    def _busy(self) -> str:
        """Ids of deliveries that the table calls pending and that are not to be begun, as JSON."""
        return orjson.dumps([*self._in_flight, *(number for *_, number in self._results)]).decode()

    def next_due(self) -> float | None:
        """When the next delivery not already under way is due, wall time."""
        row = self._store.execute(
            "select min(due) from deliveries where status = 'pending' and id not in (select value from json_each(?))",
            self._busy(),
        ).fetchone()
        return row[0] if row[0] is not None and len(self._in_flight) < _PARALLEL else None

    def start_due(self) -> None:
        """Record what has ended and begin what is due, in order, as far as there is room."""
        self._record_results()
        rows = self._store.execute(
            "select id, event, endpoint, attempt, forgery from deliveries "
            "where status = 'pending' and due <= ? and id not in (select value from json_each(?)) "
            "order by due, id limit ?",
            self._clock.wall(),
            self._busy(),
            _PARALLEL - len(self._in_flight),
        ).fetchall()
        for row in rows:
            task = asyncio.create_task(self._deliver(*row))
            self._in_flight[row[0]] = task
            task.add_done_callback(partial(self._finished, row[0]))

    def _finished(self, number: int, _: asyncio.Task[None]) -> None:
        self._in_flight.pop(number, None)
        self.changed.set()

    def _record_results(self) -> None:
        """One transaction for all since the last time; a crash before it only means that they are sent again."""
        results, self._results = self._results, []
        if results:
            with self._store.transaction():
                for result in results:
                    self._store.execute(
                        "update deliveries set status = ?, response = ?, due = ?, attempt = attempt + 1 where id = ?",
                        *result,
                    )

    async def _deliver(self, number: int, event: str, endpoint: str, attempt: int, forgery: str) -> None:
        row = self._store.execute(
            "select data ->> 'url', private ->> 'secret', (select data from objects where id = ?) from objects "
            "where id = ? and status = 'enabled'",
            event,
            endpoint,
        ).fetchone()
        if row is None:
            self._results.append(("failed", 0, self._clock.wall(), number))
            return
        url, secret, body = row[0], row[1], row[2].encode()
        if forgery == "signature":
            secret = f"not-{secret}"
        # Signed with wall time: receivers compare it with their own clock, not with the sandbox's.
        timestamp = int(self._clock.wall()) - (_OLD if forgery == "timestamp" else 0)
        status = await self._post(url, body, sign(body, secret, timestamp))
        if 200 <= status < 300:
            outcome, delay = "delivered", 0
        elif forgery or attempt >= len(RETRIES):
            outcome, delay = "failed", 0
        else:
            outcome, delay = "pending", RETRIES[attempt]
        self._results.append((outcome, status, self._clock.wall() + delay, number))

    async def _post(self, url: str, body: bytes, signature: str) -> int:
        """The receiver's HTTP status, 0 when it does not answer."""
        self._session = self._session or aiohttp.ClientSession(timeout=_TIMEOUT)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature,
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            _log.info("webhook %s: %s", url, type(error).__name__)
            return 0

    async def close(self) -> None:
        for task in list(self._in_flight.values()):
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        self._record_results()
        if self._session:
            await self._session.close()


def _dropped(faults: DeliveryFaults) -> bool:
    if faults.drop is True:
        return True
    if faults.drop:
        faults.drop -= 1
        return True
    return False
