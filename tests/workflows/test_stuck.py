"""No process is stuck silently: who is shown what, and what makes it go on."""

from datetime import timedelta

import pytest

from domain.contracts.processes import ProcessInput
from domain.processes import ProcessStuck
from tests.support.wait import until
from tests.workflows.lab import Handle, Lab
from tests.workflows.world import ScriptedEnrollment
from workflows.shared import ids
from workflows.shared.policies import SLOW_CLOCK

READ = "enrollments.read"
STUCK, RECOVERED = "processes.mark_stuck", "processes.mark_recovered"


async def _stuck(lab: Lab, *, failures: int = 1) -> tuple[ScriptedEnrollment, Handle]:
    """Its first reading fails, and then `failures` tries of the step."""
    enrollment = lab.world.enrollment()
    enrollment.fail(READ, "DatabaseDown", times=1 + failures)
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.until_marked(enrollment)
    return enrollment, process


async def test_a_failing_step_is_shown_to_operators(lab: Lab) -> None:
    enrollment, process = await _stuck(lab)
    [stuck] = lab.world.stuck[enrollment.id]
    assert stuck.process_id == ids.process_id("enrollment", enrollment.id)
    assert (stuck.kind, stuck.subject_id) == ("enrollment", enrollment.id)
    assert (stuck.step, stuck.error) == ("read the enrollment", "DatabaseDown")
    assert stuck.next_at is not None
    assert stuck.next_at - stuck.since == SLOW_CLOCK
    assert await lab.attribute(process, "LyceumStuckSince") == stuck.since
    assert await lab.details(process) == (
        f"**stuck** · read the enrollment fails with DatabaseDown since {stuck.since:%H:%M:%S} UTC"
        f" · next try {stuck.next_at:%H:%M:%S} UTC"
    )


async def test_a_first_reading_that_fails_becomes_a_step(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    enrollment.fail(READ, "DatabaseDown")
    await lab.gateway.ensure("enrollment", enrollment.id)
    await lab.shows(lab.process("enrollment", enrollment.id), "**active**")
    assert enrollment.calls == [READ, READ]


async def test_the_slow_clock_tries_again(lab: Lab) -> None:
    enrollment, process = await _stuck(lab, failures=2)
    [first] = lab.world.stuck[enrollment.id]
    await lab.clock.advance(process, SLOW_CLOCK)
    await lab.until_marked(enrollment, 2)
    _, second = lab.world.stuck[enrollment.id]
    assert second.since == first.since
    assert first.next_at is not None
    assert second.next_at is not None
    assert second.next_at >= first.next_at + SLOW_CLOCK
    await lab.clock.advance(process, SLOW_CLOCK)
    await lab.shows(process, "**active**")
    assert enrollment.calls == [READ, READ, STUCK, READ, STUCK, READ, RECOVERED]


async def test_the_clock_of_a_stuck_step_goes_on(lab: Lab) -> None:
    """What an activity decides by the time (whether Stripe still knows a key) it decides by the time of the try."""
    enrollment, process = await _stuck(lab)
    await lab.clock.advance(process, SLOW_CLOCK)
    await lab.shows(process, "**active**")
    assert enrollment.clocks[2] - enrollment.clocks[1] >= SLOW_CLOCK


async def test_who_asks_a_stuck_process_is_told(lab: Lab) -> None:
    """What was asked for happens all the same, once the step has gone through."""
    enrollment, process = await _stuck(lab)
    with pytest.raises(ProcessStuck, match=r"This step fails at the moment: read the enrollment\."):
        await lab.gateway.withdraw(enrollment.id, update_id="leave")
    await lab.clock.advance(process, SLOW_CLOCK)
    assert (await process.result())["status"] == "withdrawn"


async def test_a_stuck_payment_page_is_told_and_opened_later(lab: Lab) -> None:
    order = lab.world.order()
    order.fail("payments.open_checkout", "StripeMisuse")
    with pytest.raises(ProcessStuck, match=r"This step fails at the moment: open a payment page at Stripe\."):
        await lab.gateway.place_order(order.id, update_id="place")
    process = lab.process("order", order.id)
    await lab.clock.advance(process, SLOW_CLOCK)
    await lab.shows(process, "waiting for payment")
    with pytest.raises(ProcessStuck):  # one that was answered keeps its answer
        await lab.gateway.place_order(order.id, update_id="place")
    assert (await lab.gateway.place_order(order.id, update_id="again")).has_checkout


async def test_an_operator_makes_it_try_at_once(lab: Lab) -> None:
    enrollment, process = await _stuck(lab)
    assert await lab.gateway.retry("enrollment", enrollment.id, update_id="retry") == "read the enrollment"
    await lab.shows(process, "**active**")
    assert await lab.attribute(process, "LyceumStuckSince") is None
    assert lab.world.recovered[enrollment.id] == lab.world.stuck[enrollment.id]


async def test_an_operators_word_counts_once(lab: Lab) -> None:
    enrollment, process = await _stuck(lab, failures=2)
    await lab.gateway.retry("enrollment", enrollment.id, update_id="retry")
    await lab.until_marked(enrollment, 2)
    assert "next try" in await lab.details(process)
    assert enrollment.calls == [READ, READ, STUCK, READ, STUCK]


async def test_an_operator_may_ask_a_process_that_is_not_stuck_to_look_again(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "**active**")
    answer = await lab.gateway.retry("enrollment", enrollment.id, update_id="retry")
    assert answer.startswith("waiting for the student until ")

    async def looked_again() -> bool:
        return enrollment.calls == [READ, READ]

    await until(looked_again)


async def test_a_projection_that_fails_too_holds_nothing_up(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    enrollment.fail(READ, "DatabaseDown", times=2)
    enrollment.fail(STUCK, "DatabaseDown")
    enrollment.fail(RECOVERED, "DatabaseDown")
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "**stuck**")
    assert await lab.attribute(process, "LyceumStuckSince") is not None
    await lab.gateway.retry("enrollment", enrollment.id, update_id="retry")
    await lab.shows(process, "**active**")
    assert enrollment.calls[:5] == [READ, READ, STUCK, READ, RECOVERED]


async def test_a_step_is_stuck_when_its_patience_is_spent(lab: Lab) -> None:
    """What may pass is tried again with growing pauses; after the process's patience it counts as stuck."""
    enrollment = lab.world.enrollment()
    enrollment.fail(READ, "StripeTransient", times=1000, retryable=True)
    process = await lab.client.start_workflow(
        "Enrollment",
        ProcessInput(subject_id=enrollment.id, patience=2.5),
        id=ids.process_id("enrollment", enrollment.id),
        task_queue=f"{lab.settings.temporal.task_queue_prefix}-core",
        execution_timeout=timedelta(days=30),
    )
    await lab.until_marked(enrollment)
    assert lab.world.stuck[enrollment.id][0].error == "StripeTransient"
    *reads, stuck = enrollment.calls
    assert (set(reads), stuck) == ({READ}, STUCK)
    assert len(reads) > 2
    enrollment.repair(READ)
    await lab.gateway.retry("enrollment", enrollment.id, update_id="retry")
    await lab.shows(process, "**active**")
