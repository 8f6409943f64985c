"""The sandbox as a whole: its parts, and the loop that does what is due."""

import asyncio
import hashlib
import logging
import sqlite3
from pathlib import Path

from deploy.stripe_sandbox.clock import Clock
from deploy.stripe_sandbox.context import Context
from deploy.stripe_sandbox.delivery import Deliverer
from deploy.stripe_sandbox.faults import Faults
from deploy.stripe_sandbox.idempotency import IdempotencyKeys
from deploy.stripe_sandbox.registry import JOBS
from deploy.stripe_sandbox.store import Store

_IDLE, _PAUSE = 60.0, 1.0
_log = logging.getLogger(__name__)


def account_of(secret_key: str) -> str:
    """Every secret key is an account of its own, so that users of one sandbox do not meet."""
    return f"acct_{hashlib.sha256(secret_key.encode()).hexdigest()[:16]}"


class Sandbox:
    """`public_url` is where browsers find the payment page; empty means: where the API was called."""

    def __init__(self, state: Path | str, public_url: str = "") -> None:
        self.store = Store(state)
        self.clock = Clock(self.store)
        self.faults = Faults([], {})
        self.keys = IdempotencyKeys(self.store, self.clock)
        self.deliverer = Deliverer(self.store, self.clock, self.faults)
        self.public_url = public_url.rstrip("/")
        self.failing = False
        """Whether the loop could not do what is due."""

    def context(
        self, account: str, *, base_url: str = "", request_id: str | None = None, key: str | None = None
    ) -> Context:
        return Context(
            self.store,
            self.clock,
            self.deliverer,
            account,
            base_url=self.public_url or base_url,
            request_id=request_id,
            key=key,
        )

    def wake(self) -> None:
        """Something was written that may be due."""
        self.deliverer.changed.set()

    def run_due_jobs(self) -> None:
        """Run what is due by now, one transaction each."""
        while row := self.store.execute(
            "select id, account, kind, subject from jobs where due <= ? order by due, id limit 1", self.clock.wall()
        ).fetchone():
            number, account, kind, subject = row
            try:
                with self.store.transaction():
                    self.store.execute("delete from jobs where id = ?", number)
                    JOBS[kind](self.context(account), subject)
            except sqlite3.Error:
                raise
            except Exception:
                _log.exception("job %s of %s failed and is dropped", kind, subject)
                self.store.execute("delete from jobs where id = ?", number)

    def advance(self, account: str | None, seconds: float) -> None:
        """Move the clock of an account, or everyone's, and let happen what happens in that time."""
        with self.store.transaction():
            self.clock.advance(account, seconds)
            self.keys.prune()
        self.run_due_jobs()
        self.wake()

    async def run(self) -> None:
        """Do what is due, for ever; after a failure again in a second."""
        while True:
            try:
                self.deliverer.changed.clear()
                self.run_due_jobs()
                self.deliverer.start_due()
                self.failing = False
                await asyncio.wait_for(self.deliverer.changed.wait(), self._until_next())
            except TimeoutError:
                continue
            except Exception:
                self.failing = True
                _log.exception("what is due could not be done")
                await asyncio.sleep(_PAUSE)

    def _until_next(self) -> float:
        row = self.store.execute("select min(due) from jobs").fetchone()
        due = [moment for moment in (row[0], self.deliverer.next_due()) if moment is not None]
        return max(0.0, min(_IDLE, min(due) - self.clock.wall())) if due else _IDLE

    async def close(self) -> None:
        await self.deliverer.close()
        self.store.close()
