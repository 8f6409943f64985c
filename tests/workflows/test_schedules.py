"""What runs by the calendar is declared in code; setting up twice changes nothing, and pauses stay."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import ScheduleHandle, ScheduleOverlapPolicy, ScheduleUpdate, ScheduleUpdateInput

from core.settings import Settings
from tests.support.wait import until
from tests.workflows.lab import Lab
from workflows import schedules

PURGE = "lab-upload-purge"


@pytest.fixture
async def purge(lab: Lab) -> AsyncIterator[ScheduleHandle]:
    await schedules.sync(lab.client, lab.settings)
    handle = lab.client.get_schedule_handle(PURGE)
    yield handle
    await handle.delete()


async def test_what_is_declared_exists(lab: Lab, purge: ScheduleHandle) -> None:
    schedule = (await purge.describe()).schedule
    [interval] = schedule.spec.intervals
    assert interval.every == timedelta(hours=1)
    assert schedule.spec.jitter == timedelta(minutes=5)
    assert schedule.policy.overlap is ScheduleOverlapPolicy.SKIP
    assert schedule.policy.catchup_window == timedelta(hours=1)


async def test_syncing_again_changes_nothing(lab: Lab, purge: ScheduleHandle) -> None:
    before = (await purge.describe()).schedule
    await schedules.sync(lab.client, lab.settings)
    after = (await purge.describe()).schedule
    assert (after.spec, after.policy, after.state) == (before.spec, before.policy, before.state)


async def test_syncing_brings_back_what_was_changed_by_hand(lab: Lab, purge: ScheduleHandle) -> None:
    def lengthen(current: ScheduleUpdateInput) -> ScheduleUpdate:
        current.description.schedule.spec.jitter = timedelta(minutes=50)
        return ScheduleUpdate(current.description.schedule)

    await purge.update(lengthen)
    assert (await purge.describe()).schedule.spec.jitter == timedelta(minutes=50)
    await schedules.sync(lab.client, lab.settings)
    assert (await purge.describe()).schedule.spec.jitter == timedelta(minutes=5)


async def test_syncing_leaves_a_pause_alone(lab: Lab, purge: ScheduleHandle) -> None:
    await purge.pause(note="S3 is being moved")
    await schedules.sync(lab.client, lab.settings)
    state = (await purge.describe()).schedule.state
    assert (state.paused, state.note) == (True, "S3 is being moved")


async def test_a_trigger_runs_the_workflow(lab: Lab, purge: ScheduleHandle) -> None:
    removed = lab.world.purge.count("uploads.purge_abandoned")
    await purge.trigger()

    async def ran() -> bool:
        return lab.world.purge.count("uploads.purge_abandoned") > removed

    await until(ran, timeout=60)


def test_ids_and_queues_carry_the_prefix() -> None:
    settings = Settings.model_validate({"temporal": {"task_queue_prefix": "there"}})
    assert list(schedules.declared(settings)) == ["there-upload-purge"]


async def test_search_attributes_are_registered_again_without_harm(lab: Lab) -> None:
    await schedules.register_search_attributes(lab.client)
    await schedules.register_search_attributes(lab.client)
