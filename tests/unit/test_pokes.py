"""Which events share a poke."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from api.pokes import Pokes
from domain.errors import ServiceUnavailable
from tests.support.wait import until


class Temporal:
    """Answers a poke when it is let, and keeps what was poked and noted."""

    def __init__(self) -> None:
        self.pokes: list[UUID] = []
        self.noted: list[list[str]] = []
        self.away = False
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def poke(self, kind: str, subject_id: UUID) -> None:
        self.pokes.append(subject_id)
        self.asked.set()
        await self.answer.wait()
        if self.away:
            raise ServiceUnavailable("Temporal does not answer.", retry_after=5)

    async def note(self, event_ids: Sequence[str]) -> None:
        self.noted.append(list(event_ids))


@pytest.fixture
def temporal() -> Temporal:
    return Temporal()


@pytest.fixture
def pokes(temporal: Temporal) -> Pokes:
    return Pokes(temporal.poke, temporal.note, gather=0)


async def test_events_that_come_together_share_one(temporal: Temporal) -> None:
    order, pokes = uuid4(), Pokes(temporal.poke, temporal.note, gather=0.05)
    temporal.answer.set()
    await asyncio.gather(*(pokes.dispatch(("order", order), f"evt_{n}") for n in (1, 2, 3)))
    assert temporal.pokes == [order]
    assert temporal.noted == [["evt_1", "evt_2", "evt_3"]]


async def test_events_that_come_while_a_poke_is_under_way_share_the_next(temporal: Temporal, pokes: Pokes) -> None:
    order = uuid4()
    first = asyncio.create_task(pokes.dispatch(("order", order), "evt_1"))
    await temporal.asked.wait()
    await asyncio.gather(*(pokes.dispatch(("order", order), f"evt_{n}") for n in (2, 3, 4)))
    assert temporal.noted == []
    temporal.answer.set()
    await first
    assert temporal.pokes == [order, order]
    assert temporal.noted == [["evt_1"], ["evt_2", "evt_3", "evt_4"]]


async def test_processes_do_not_wait_for_each_other(temporal: Temporal, pokes: Pokes) -> None:
    orders = [uuid4(), uuid4()]
    both = asyncio.gather(*(pokes.dispatch(("order", order), str(order)) for order in orders))

    async def both_asked() -> bool:
        return temporal.pokes == orders

    await until(both_asked)
    temporal.answer.set()
    await both


async def test_what_a_failed_poke_leaves_is_not_noted_and_the_next_event_pokes_again(
    temporal: Temporal, pokes: Pokes
) -> None:
    order, temporal.away = uuid4(), True
    first = asyncio.create_task(pokes.dispatch(("order", order), "evt_1"))
    await temporal.asked.wait()
    await pokes.dispatch(("order", order), "evt_2")
    temporal.answer.set()
    with pytest.raises(ServiceUnavailable):
        await first
    assert temporal.noted == []
    temporal.away = False
    await pokes.dispatch(("order", order), "evt_3")
    assert temporal.pokes == [order, order]
    assert temporal.noted == [["evt_3"]]
