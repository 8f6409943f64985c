"""Every branch of the Refund process."""

from datetime import timedelta

import pytest

from tests.workflows.lab import Handle, Lab
from tests.workflows.world import ScriptedRefund

NEXT = ["refunds.next_attempt", "refunds.submit"]
STUCK = "processes.mark_stuck"
RECOVERED = "processes.mark_recovered"


async def _started(lab: Lab, *answers: str) -> tuple[ScriptedRefund, Handle]:
    refund = lab.world.refund(*answers)
    await lab.gateway.ensure("refund", refund.id)
    return refund, lab.process("refund", refund.id)


async def _succeeded(process: Handle) -> None:
    assert await process.result() == {"status": "succeeded"}


async def test_succeeds_at_once(lab: Lab) -> None:
    refund, process = await _started(lab, "succeeded")
    await _succeeded(process)
    assert refund.calls == ["refunds.submit"]
    assert await lab.attribute(process, "LyceumState") == "succeeded"


async def test_pending_until_a_poke(lab: Lab) -> None:
    refund, process = await _started(lab, "pending", "succeeded")
    await lab.shows(process, "**pending** · waiting for the refund at Stripe")
    await lab.gateway.poke("refund", refund.id)
    await _succeeded(process)
    assert refund.calls == ["refunds.submit", "refunds.read"]


async def test_pending_until_the_hourly_poll(lab: Lab) -> None:
    refund, process = await _started(lab, "pending", "pending", "succeeded")
    for _ in range(2):
        await lab.shows(process, "waiting for the refund at Stripe")
        await lab.clock.advance(process, timedelta(hours=1))
    await _succeeded(process)
    assert refund.calls == ["refunds.submit", "refunds.read", "refunds.read"]


async def test_refused_until_an_operator_asks_for_another_attempt(lab: Lab) -> None:
    refund = lab.world.refund("succeeded")
    refund.fail("refunds.submit", "StripeRefused")
    await lab.gateway.ensure("refund", refund.id)
    process = lab.process("refund", refund.id)
    await lab.shows(process, "**stuck** · give the money back fails with StripeRefused")
    await lab.until_marked(refund)
    assert await lab.gateway.retry("refund", refund.id, update_id="retry") == "give the money back"
    await _succeeded(process)
    assert refund.calls == ["refunds.submit", STUCK, *NEXT, RECOVERED]
    assert refund.attempt == 2


async def test_a_spent_attempt_is_followed_by_another_without_an_operator(lab: Lab) -> None:
    refund = lab.world.refund("succeeded")
    refund.fail("refunds.submit", "RefundAttemptSpent")
    await lab.gateway.ensure("refund", refund.id)
    await _succeeded(lab.process("refund", refund.id))
    assert refund.calls == ["refunds.submit", *NEXT]


@pytest.mark.parametrize("answers", [("needs_manual",), ("pending", "needs_manual")])
async def test_failed_at_stripe_waits_for_an_operator(lab: Lab, answers: tuple[str, ...]) -> None:
    refund, process = await _started(lab, *answers)
    if len(answers) == 2:
        await lab.shows(process, "waiting for the refund at Stripe")
        await lab.gateway.poke("refund", refund.id)
    await lab.shows(process, "fails with RefundFailed")
    await lab.until_marked(refund)
    [stuck] = lab.world.stuck[refund.id]
    assert (stuck.step, stuck.error, stuck.next_at) == ("give the money back", "RefundFailed", None)
    refund.answer("pending", "succeeded")
    await lab.gateway.retry("refund", refund.id, update_id="retry")
    await _succeeded(process)
    assert refund.attempt == 2
    assert lab.world.recovered[refund.id] == [stuck]


async def test_nothing_but_an_operators_word_starts_another_attempt(lab: Lab) -> None:
    refund, process = await _started(lab, "needs_manual")
    await lab.shows(process, "waiting for an operator")
    await lab.until_marked(refund)
    await lab.gateway.poke("refund", refund.id)
    await lab.clock.advance(process, timedelta(days=400))
    assert "waiting for an operator" in await lab.details(process)
    assert refund.calls == ["refunds.submit", STUCK]


async def test_a_poke_after_the_end_reads_the_refund_again(lab: Lab) -> None:
    refund, process = await _started(lab, "succeeded")
    await _succeeded(process)
    await lab.gateway.poke("refund", refund.id)
    await _succeeded(lab.process("refund", refund.id))
    assert refund.calls == ["refunds.submit", "refunds.submit"]
