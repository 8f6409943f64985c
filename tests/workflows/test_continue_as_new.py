"""Processes that live long start over with a short history, and lose nothing on the way."""

from tests.support.wait import until
from tests.workflows.lab import Handle, Lab


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
