"""Processes that live long start over with a short history, and lose nothing on the way."""

from tests.support.wait import until
from tests.workflows.lab import Handle, Lab
from workflows.shared.policies import SLOW_CLOCK


async def _started_over(lab: Lab, process: Handle, first_run: str) -> bool:
    return await lab.run_id(process) != first_run


async def test_an_enrollment_starts_over(short_histories: Lab) -> None:
    lab = short_histories
    enrollment = lab.world.enrollment()
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    first = await lab.run_id(process)
    await lab.poke_until(enrollment, "enrollment", lambda: _started_over(lab, process, first))
    assert (await lab.gateway.withdraw(enrollment.id, update_id="leave")).status == "withdrawn"
    assert enrollment.ended == ["withdrawn"]


async def test_an_order_starts_over_and_keeps_its_payment_page(short_histories: Lab) -> None:
    lab = short_histories
    order = lab.world.order()
    placed = await lab.gateway.place_order(order.id, update_id="place")
    process = lab.process("order", order.id)
    first = await lab.run_id(process)
    await lab.poke_until(order, "order", lambda: _started_over(lab, process, first))
    assert await lab.gateway.place_order(order.id, update_id="place") == placed
    assert order.count("orders.record_checkout") == 1
    order.pay()
    await lab.gateway.poke("order", order.id)
    assert (await process.result())["status"] == "paid"


async def test_a_poke_on_the_way_to_a_new_run_is_not_lost(short_histories: Lab) -> None:
    """Every booking is held until the next poke is there, so that the run ends with one unread."""
    lab = short_histories
    order = lab.world.order()
    await lab.gateway.place_order(order.id, update_id="place")
    process = lab.process("order", order.id)
    first = await lab.run_id(process)
    for booking in range(1, 9):
        async with order.held("orders.apply_payments"):
            await lab.gateway.poke("order", order.id)

            async def booking_began(expected: int = booking) -> bool:
                return order.count("orders.apply_payments") >= expected

            await until(booking_began)
            if booking == 8:
                order.pay()
            await lab.gateway.poke("order", order.id)
    assert (await process.result())["status"] == "paid"
    assert await _started_over(lab, process, first)


async def test_an_order_that_waits_for_its_settlement_starts_over(short_histories: Lab) -> None:
    lab = short_histories
    order = lab.world.order()
    await lab.gateway.place_order(order.id, update_id="place")
    process = lab.process("order", order.id)
    order.pay("captured")
    first = await lab.run_id(process)
    await lab.poke_until(order, "order", lambda: _started_over(lab, process, first))
    order.pay("settled")
    await lab.gateway.poke("order", order.id)
    assert (await process.result())["settled"] is True


async def test_a_stuck_process_starts_over_and_stays_stuck(short_histories: Lab) -> None:
    """It tries for ever, so its history must not end it; operators see one trouble, from its beginning to its end."""
    lab = short_histories
    order = lab.world.order()
    await lab.gateway.place_order(order.id, update_id="place")
    process = lab.process("order", order.id)
    first = await lab.run_id(process)
    order.fail("orders.apply_payments", "DatabaseDown", times=1000)
    order.pay()
    await lab.gateway.poke("order", order.id)
    await lab.until_marked(order)
    while not await _started_over(lab, process, first):
        seen = len(lab.world.stuck[order.id])
        await lab.clock.advance(process, SLOW_CLOCK)
        await lab.until_marked(order, seen + 1)
    assert {(stuck.step, stuck.since) for stuck in lab.world.stuck[order.id]} == {
        ("book the payments", lab.world.stuck[order.id][0].since)
    }
    assert lab.world.recovered[order.id] == []
    order.repair("orders.apply_payments")
    await lab.clock.advance(lab.process("order", order.id), SLOW_CLOCK)
    assert (await process.result())["status"] == "paid"
    assert [stuck.step for stuck in lab.world.recovered[order.id]] == ["book the payments"]


async def test_a_refund_starts_over(short_histories: Lab) -> None:
    lab = short_histories
    refund = lab.world.refund("pending")
    await lab.gateway.ensure("refund", refund.id)
    process = lab.process("refund", refund.id)
    first = await lab.run_id(process)
    await lab.poke_until(refund, "refund", lambda: _started_over(lab, process, first))
    refund.answer("succeeded")
    await lab.gateway.poke("refund", refund.id)
    assert await process.result() == {"status": "succeeded"}
    assert refund.attempt == 1
