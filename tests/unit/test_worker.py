"""How a worker shares its activity slots among its queues."""

from itertools import combinations

import pytest

from core.settings import Settings
from workflows.worker import QUEUES, activity_slots

SETTINGS = Settings(_env_file=None)
POOL = SETTINGS.database.pool_size + SETTINGS.database.max_overflow
SUBSETS = [queues for size in (1, 2, 3) for queues in combinations(QUEUES, size)]


@pytest.mark.parametrize("queues", SUBSETS, ids="-".join)
def test_activities_together_never_outnumber_the_connections(queues: tuple[str, ...]) -> None:
    slots = activity_slots(queues, SETTINGS)
    assert list(slots) == list(queues)
    assert min(slots.values()) >= 1
    assert sum(slots.values()) <= POOL


def test_fewer_activities_than_connections_may_be_asked_for() -> None:
    temporal = SETTINGS.temporal.model_copy(update={"max_concurrent_activities": 6})
    slots = activity_slots(QUEUES, SETTINGS.model_copy(update={"temporal": temporal}))
    assert slots == {"core": 3, "stripe": 2, "bulk": 1}
