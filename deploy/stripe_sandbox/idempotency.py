"""Idempotency keys with Stripe's semantics.

A key remembers the first executed reply, errors included, for 24 hours of the account's clock. A reply to a request
that failed validation, met a rate limit or a conflict is not remembered. While the first request runs, others with its
key meet 409.
"""

import hashlib
from dataclasses import dataclass

import orjson

from deploy.stripe_sandbox.clock import Clock
from deploy.stripe_sandbox.errors import idempotency_mismatch, in_progress
from deploy.stripe_sandbox.schema import JSON
from deploy.stripe_sandbox.store import Store

LIFETIME = 24 * 3600
MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Remembered:
    status: int
    body: bytes
    request: str
    """The id of the request that made the reply."""


class IdempotencyKeys:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._running: set[tuple[str, str]] = set()

    def recall(self, account: str, key: str, path: str, params: JSON) -> Remembered | None:
        """The reply to repeat, or None when the request shall run. Raises 409 while it runs and 400 when it differs."""
        if (account, key) in self._running:
            raise in_progress()
        row = self._store.execute(
            "select hash, path, status, body, request, created from idempotency where account = ? and key = ?",
            account,
            key,
        ).fetchone()
        if row is None:
            return None
        digest, first_path, status, body, request, created = row
        if created + LIFETIME <= self._clock.now(account):
            self._store.execute("delete from idempotency where account = ? and key = ?", account, key)
            return None
        hint = f"Try using a key other than '{key}' if you meant to execute a different request."
        if first_path != path:
            raise idempotency_mismatch(
                f"Keys for idempotent requests can only be used for the same endpoint they were first used for "
                f"('{path}' vs '{first_path}'). {hint}"
            )
        if digest != _digest(params):
            raise idempotency_mismatch(
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"{hint}"
            )
        return Remembered(status, body, request)

    def begin(self, account: str, key: str) -> None:
        self._running.add((account, key))

    def end(self, account: str, key: str) -> None:
        self._running.discard((account, key))

    def remember(self, account: str, key: str, path: str, params: JSON, reply: Remembered) -> None:
        """Keep a reply. Call in the transaction of its effects."""
        self._store.execute(
            "insert into idempotency values (?, ?, ?, ?, ?, ?, ?, ?)",
            account,
            key,
            _digest(params),
            path,
            reply.status,
            reply.body,
            reply.request,
            self._clock.now(account),
        )

    def prune(self) -> None:
        """Forget what is older than a day by its account's clock."""
        for (account,) in self._store.execute("select distinct account from idempotency").fetchall():
            self._store.execute(
                "delete from idempotency where account = ? and created <= ?",
                account,
                self._clock.now(account) - LIFETIME,
            )


def _digest(params: JSON) -> str:
    return hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).hexdigest()
