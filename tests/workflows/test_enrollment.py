"""Every branch of the Enrollment process."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from core import clock
from domain.processes import ProcessEnded, ProcessStuck
from tests.support.wait import until
from tests.workflows.lab import Handle, Lab
from tests.workflows.world import ScriptedEnrollment

MONTH = timedelta(days=30)


async def _active(lab: Lab, expires_at: datetime | None = None) -> tuple[ScriptedEnrollment, Handle]:
    enrollment = lab.world.enrollment(expires_at=expires_at)
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "**active** · waiting for the student")
    return enrollment, process


async def _ended(process: Handle, status: str) -> None:
    assert (await process.result())["status"] == status


async def test_the_student_withdraws(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    assert (await lab.gateway.withdraw(enrollment.id, update_id="leave")).status == "withdrawn"
    await _ended(process, "withdrawn")
    assert enrollment.calls == ["enrollments.read", "enrollments.end"]
    assert enrollment.ended == ["withdrawn"]
    assert await lab.attribute(process, "LyceumState") == "withdrawn"


async def test_withdrawing_starts_a_process_that_nobody_started(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    assert (await lab.gateway.withdraw(enrollment.id, update_id="leave")).status == "withdrawn"
    assert enrollment.ended == ["withdrawn"]


async def test_withdrawing_from_an_ended_enrollment_answers_how_it_ended(lab: Lab) -> None:
    enrollment = lab.world.enrollment(status="revoked")
    assert (await lab.gateway.withdraw(enrollment.id, update_id="leave")).status == "revoked"
    assert enrollment.ended == []


async def test_withdrawing_twice_ends_it_once(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    answers = await asyncio.gather(
        lab.gateway.withdraw(enrollment.id, update_id="leave"), lab.gateway.withdraw(enrollment.id, update_id="leave")
    )
    assert [answer.status for answer in answers] == ["withdrawn", "withdrawn"]
    await _ended(process, "withdrawn")
    assert enrollment.ended == ["withdrawn"]


async def test_ends_on_its_last_day(lab: Lab) -> None:
    enrollment, process = await _active(lab, clock.now() + MONTH)
    await lab.clock.advance(process, MONTH - timedelta(minutes=1))
    assert enrollment.calls == ["enrollments.read"]
    await lab.clock.advance(process, timedelta(minutes=1))
    await _ended(process, "expired")
    assert enrollment.ended == ["expired"]


async def test_a_last_day_that_moved_is_waited_for(lab: Lab) -> None:
    """The timer fires at the old instant; PostgreSQL knows the new one."""
    enrollment, process = await _active(lab, clock.now() + MONTH)
    moved = clock.now() + 2 * MONTH
    enrollment.state = replace(enrollment.state, expires_at=moved)
    await lab.clock.advance(process, MONTH)
    await lab.shows(process, f"until {moved:%Y-%m-%d %H:%M:%S} UTC")
    assert enrollment.ended == []
    await lab.clock.advance(process, MONTH)
    await _ended(process, "expired")


async def test_a_last_day_that_was_brought_forward_counts_from_the_poke(lab: Lab) -> None:
    enrollment, process = await _active(lab, clock.now() + 2 * MONTH)
    enrollment.state = replace(enrollment.state, expires_at=clock.now() + MONTH)
    await lab.gateway.poke_running("enrollment", enrollment.id)
    await lab.shows(process, f"until {enrollment.state.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    await lab.clock.advance(process, MONTH)
    await _ended(process, "expired")


async def test_a_last_day_that_has_passed_ends_it_at_once(lab: Lab) -> None:
    enrollment = lab.world.enrollment(expires_at=clock.now() - MONTH)
    await lab.gateway.ensure("enrollment", enrollment.id)
    await _ended(lab.process("enrollment", enrollment.id), "expired")


async def test_without_a_last_day_it_is_looked_at_every_ninety_days(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    next_look = await lab.details(process)
    await lab.clock.advance(process, timedelta(days=90))

    async def waits_anew() -> bool:
        return await lab.details(process) != next_look

    await until(waits_anew, timeout=60)
    assert "waiting for the student until" in await lab.details(process)
    assert enrollment.calls == ["enrollments.read", "enrollments.read"]
    assert enrollment.ended == []


async def test_revoked_elsewhere_and_told_by_a_poke(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    enrollment.state = replace(enrollment.state, status="revoked")
    await lab.gateway.poke_running("enrollment", enrollment.id)
    await _ended(process, "revoked")
    assert enrollment.ended == []


async def test_an_ended_process_is_not_started_again_by_its_own_event(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    await lab.gateway.withdraw(enrollment.id, update_id="leave")
    await _ended(process, "withdrawn")
    with pytest.raises(ProcessEnded, match=r"The process is not running\."):
        await lab.gateway.poke_running("enrollment", enrollment.id)


async def test_what_cannot_be_ended_now_is_ended_later(lab: Lab) -> None:
    enrollment, process = await _active(lab)
    enrollment.fail("enrollments.end", "DatabaseDown")
    with pytest.raises(ProcessStuck):
        await lab.gateway.withdraw(enrollment.id, update_id="leave")
    await lab.until_marked(enrollment)
    assert await lab.gateway.retry("enrollment", enrollment.id, update_id="retry") == "end the enrollment: withdrawn"
    await _ended(process, "withdrawn")
