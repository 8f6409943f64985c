"""Paid orders per second against a bare workflow of the same shape, and what an order costs each process."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any
from uuid import UUID

import aiohttp
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy

from core.ids import new_id
from core.temporal import task_queue
from tests.bench.bare_process import BareWorkflow
from tests.bench.bare_worker import QUEUE
from tests.bench.figures import Figure, Side, compare
from tests.bench.load import Load
from tests.bench.procfs import cpu_of
from tests.bench.world import World
from tests.support.wait import until
from workflows.shared import ids

GOAL = 0.50
BUYERS = 12
"""Who buy at the same time."""
PATIENCE = 600


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU milliseconds of an order by process, above what the process takes at rest; and how an order came about."""

    cpu_ms: dict[str, float]
    bare_cpu_ms: dict[str, float]
    activities: int
    """Of most orders: paid, then settled when Stripe has its balance transaction."""
    activities_least: int


class Buyers:
    """`BUYERS` at a time place an order and pay it; a round ends when the last order is settled."""

    def __init__(self, world: World, http: aiohttp.ClientSession) -> None:
        self._world, self._http = world, http
        self._students = iter(world.students)
        self.orders: list[UUID] = []

    async def round(self, count: int) -> Load:
        slots, started, first = asyncio.Semaphore(BUYERS), time.perf_counter(), len(self.orders)
        await asyncio.gather(*(self._buy(slots) for _ in range(count)))
        placed = self.orders[first:]
        await until(partial(self._settled, placed), timeout=PATIENCE, every=0.1)
        seconds = time.perf_counter() - started
        await until(partial(self._studying, count), timeout=PATIENCE, every=0.1)
        return Load(count, seconds)

    async def _buy(self, slots: asyncio.Semaphore) -> None:
        api, stripe = self._world.settings.api.public_url, self._world.settings.stripe
        async with slots:
            order = await self._post(
                f"{api}/v1/orders",
                {"items": [{"course_id": self._world.course_id}]},
                {**next(self._students).headers, "Idempotency-Key": str(new_id())},
            )
            self.orders.append(UUID(order["id"]))
            url = order["checkout_url"] or await until(partial(self._checkout, order["id"]), timeout=PATIENCE)
            session = url.rsplit("/", 1)[-1].partition("#")[0]
            await self._post(
                f"{stripe.api_base}/_sandbox/checkout/{session}/pay",
                {"card": "4242424242424242"},
                {"Authorization": f"Bearer {stripe.secret_key.get_secret_value()}"},
            )

    async def _post(self, url: str, body: object, headers: dict[str, str]) -> dict[str, Any]:
        async with self._http.post(url, json=body, headers=headers) as answer:
            assert answer.status in (200, 201, 202), await answer.text()
            return dict(await answer.json())

    async def _value(self, query: str, **values: object) -> Any:
        async with self._world.db.read() as session:
            return await session.scalar(text(query), values)

    async def _checkout(self, order_id: str) -> Any:
        """A busy machine may answer 202: the page comes later."""
        return await self._value("select url from checkout_sessions where order_id = :id", id=UUID(order_id))

    async def _settled(self, orders: list[UUID]) -> bool:
        query = "select count(*) from orders where id = any(:ids) and settled_at is not null"
        return bool(await self._value(query, ids=orders) == len(orders))

    async def _studying(self, count: int) -> bool:
        """Whether the process of every enrollment has begun: it belongs to its order's round."""
        query = "select count(*) from processes where kind = 'enrollment'"
        return bool(await self._value(query) == len(self.orders))


class BareOrders:
    """The same number at a time: start with an update, signal, wait for the end."""

    def __init__(self, world: World, activities: int) -> None:
        self._world, self._activities = world, activities

    async def round(self, count: int) -> Load:
        slots, started = asyncio.Semaphore(BUYERS), time.perf_counter()
        await asyncio.gather(*(self._run(slots) for _ in range(count)))
        return Load(count, time.perf_counter() - started)

    async def _run(self, slots: asyncio.Semaphore) -> None:
        client, workflow_id = self._world.temporal, f"bare-{new_id()}"
        start = WithStartWorkflowOperation(
            BareWorkflow.run,
            self._activities,
            id=workflow_id,
            task_queue=task_queue(self._world.settings, QUEUE),
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        async with slots:
            await client.execute_update_with_start_workflow(BareWorkflow.place, start_workflow_operation=start)
            handle = await start.workflow_handle()
            await handle.signal(BareWorkflow.poke)
            await handle.result()


async def orders(world: World, *, pairs: int, count: int) -> tuple[Figure, Costs]:
    """`pairs` rounds of `count` orders, and as many of bare workflows, in turns."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        buyers = Buyers(world, http)
        await buyers.round(count)
        counts = sorted([await _activities(world, order_id) for order_id in buyers.orders])
        usual = int(median(counts))
        bare = BareOrders(world, usual)
        meter = _Meter(world)
        figure = await compare(
            "Paid orders",
            Side("orders placed, paid and settled", partial(meter.measured, "order", buyers.round, count)),
            Side(
                f"a workflow of one update, one signal and {usual} empty activities",
                partial(meter.measured, "bare", bare.round, count),
            ),
            pairs=pairs,
            goal=GOAL,
            note=f"{BUYERS} buyers at a time; the process of the enrollment is part of the round",
        )
        await meter.at_rest()
    costs = Costs(meter.per_unit("order"), meter.per_unit("bare"), usual, counts[0])
    return figure, costs


async def _activities(world: World, order_id: UUID) -> int:
    """How many activities the order's process has run so far."""
    seen: Counter[int] = Counter()
    async for event in world.temporal.get_workflow_handle(ids.process_id("order", order_id)).fetch_history_events():
        seen[event.event_type] += 1
    return seen[EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]


class _Meter:
    """CPU of every process during rounds and at rest."""

    def __init__(self, world: World) -> None:
        self._pids = world.pids() | {"bare worker": world.bare_worker_pid}
        self._spent: dict[str, dict[str, float]] = {}
        self._seconds: dict[str, float] = {}
        self._units: Counter[str] = Counter()

    async def measured(self, kind: str, round: Any, count: int) -> Load:
        before, started = cpu_of(self._pids), time.perf_counter()
        load: Load = await round(count)
        self._add(kind, before, time.perf_counter() - started, load.answers)
        return load

    async def at_rest(self, seconds: float = 5.0) -> None:
        before, started = cpu_of(self._pids), time.perf_counter()
        await asyncio.sleep(seconds)
        self._add("rest", before, time.perf_counter() - started, 0)

    def _add(self, kind: str, before: dict[str, float], seconds: float, units: int) -> None:
        spent = self._spent.setdefault(kind, {})
        for name, after in cpu_of(self._pids).items():
            spent[name] = spent.get(name, 0.0) + after - before[name]
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds
        self._units[kind] += units

    def per_unit(self, kind: str) -> dict[str, float]:
        """Milliseconds by process, without those that did nothing."""
        share = self._seconds[kind] / self._seconds["rest"]
        found = {
            name: max(spent - self._spent["rest"][name] * share, 0) * 1000 / self._units[kind]
            for name, spent in self._spent[kind].items()
        }
        return {name: cost for name, cost in found.items() if cost >= 0.05}
