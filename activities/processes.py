"""Showing operators which process is stuck."""

from temporalio import activity

from core.clock import now
from core.db import Database
from domain.contracts.processes import Stuck
from services import processes


class ProcessActivities:
    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="processes.mark_stuck")
    async def mark_stuck(self, stuck: Stuck) -> None:
        async with self._db.transaction() as session:
            await processes.mark_stuck(session, stuck)

    @activity.defn(name="processes.mark_recovered")
    async def mark_recovered(self, stuck: Stuck) -> None:
        async with self._db.transaction() as session:
            await processes.mark_recovered(session, stuck, now())
