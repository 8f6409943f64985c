"""Poking the processes that Stripe's webhooks concern: once for those that arrive together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from services.stripe_events import Target


class Pokes:
    """At most one poke of a process is under way; events that come before it is sent share it.

    A payment is told by four events within milliseconds, and each poke costs Temporal a signal and a workflow task.
    They may share one that is sent after they came, since the process reads Stripe after it; never one sent before.
    """

    def __init__(
        self,
        poke: Callable[[str, UUID], Awaitable[None]],
        note: Callable[[Sequence[str]], Awaitable[None]],
        *,
        gather: float = 0.1,
    ) -> None:
        """`note` keeps which events have had their poke; a poke waits `gather` seconds for others to share it."""
        self._poke, self._note, self._gather = poke, note, gather
        self._waiting: dict[Target, list[str]] = {}
        self._busy: set[Target] = set()

    async def dispatch(self, target: Target, event_id: str) -> None:
        """Pokes `target` for a stored event and notes it as dispatched, or leaves both to the poke under way.

        Raises what poking raises; the sweeper pokes for what is not noted.
        """
        self._waiting.setdefault(target, []).append(event_id)
        if target in self._busy:
            return
        self._busy.add(target)
        try:
            while target in self._waiting:
                await asyncio.sleep(self._gather)
                event_ids = self._waiting.pop(target)
                await self._poke(*target)
                await self._note(event_ids)
        finally:
            self._busy.discard(target)
            self._waiting.pop(target, None)
