"""The sandbox's clock: wall time plus an offset that only grows.

Deadlines (jobs, deliveries) are kept in wall time, and moving the clock pulls them nearer. So a moved clock ages what
exists, while a caller that knows only wall time can go on opening sessions that expire "in 30 minutes".
"""

import time

from deploy.stripe_sandbox.store import Store

_KEY = "clock"
_EVERYONE = "*"


class Clock:
    """Offsets are seconds, for one account or for everyone; they survive a restart."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._offsets: dict[str, float] = store.meta(_KEY, {})

    def wall(self) -> float:
        """Wall time, seconds since the epoch."""
        return time.time()

    def offset(self, account: str | None) -> float:
        return self._offsets.get(_EVERYONE, 0.0) + (self._offsets.get(account, 0.0) if account else 0.0)

    def now(self, account: str | None) -> float:
        """What an account takes for the present, seconds since the epoch."""
        return self.wall() + self.offset(account)

    def advance(self, account: str | None, seconds: float) -> None:
        """Move the clock of an account, or everyone's. Call in a transaction."""
        scope = account or _EVERYONE
        self._offsets[scope] = self._offsets.get(scope, 0.0) + seconds
        self._store.set_meta(_KEY, self._offsets)
        for table in ("jobs", "deliveries"):
            sql = f"update {table} set due = due - ?1 where ?2 is null or account = ?2"  # noqa: S608
            self._store.execute(sql, seconds, account)
