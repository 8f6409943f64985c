"""The one door to the processes: what it answers when they run, have ended, or cannot be reached."""

import pytest
from temporalio.client import WorkflowExecutionStatus

from core.ids import new_id
from domain.errors import ServiceUnavailable
from domain.processes import ProcessEnded
from tests.support.ports import free_port
from tests.workflows.lab import Lab, settings_of
from workflows.gateway import ProcessGateway


async def test_a_process_can_be_found_by_operators(lab: Lab) -> None:
    order = lab.world.order()
    await lab.gateway.ensure("order", order.id)
    described = await lab.process("order", order.id).describe()
    assert described.id == f"order-{order.id}"
    assert described.workflow_type == "Order"
    assert described.task_queue == "lab-core"
    assert await described.static_summary() == f"order {order.id}"
    assert f"/v1/orders/{order.id})" in str(await described.static_details())


async def test_ensuring_twice_starts_once(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    await lab.gateway.ensure("enrollment", enrollment.id)
    run = await lab.run_id(lab.process("enrollment", enrollment.id))
    await lab.gateway.ensure("enrollment", enrollment.id)
    assert await lab.run_id(lab.process("enrollment", enrollment.id)) == run


async def test_ensuring_leaves_a_process_that_has_run_alone(lab: Lab) -> None:
    refund = lab.world.refund("succeeded")
    await lab.gateway.ensure("refund", refund.id)
    process = lab.process("refund", refund.id)
    await process.result()
    await lab.gateway.ensure("refund", refund.id)
    assert (await process.describe()).status is WorkflowExecutionStatus.COMPLETED
    assert refund.calls == ["refunds.submit"]


async def test_poking_starts_what_does_not_run(lab: Lab) -> None:
    refund = lab.world.refund("succeeded")
    await lab.gateway.poke("refund", refund.id)
    assert await lab.process("refund", refund.id).result() == {"status": "succeeded"}


async def test_retrying_what_does_not_run_is_refused(lab: Lab) -> None:
    with pytest.raises(ProcessEnded, match=r"The process is not running\."):
        await lab.gateway.retry("order", new_id(), update_id="retry")
    refund = lab.world.refund("succeeded")
    await lab.gateway.ensure("refund", refund.id)
    await lab.process("refund", refund.id).result()
    with pytest.raises(ProcessEnded, match=r"The process is not running\."):
        await lab.gateway.retry("refund", refund.id, update_id="retry")


async def test_the_same_retry_counts_once(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    enrollment.fail("enrollments.read", "DatabaseDown", times=3)
    await lab.gateway.ensure("enrollment", enrollment.id)
    await lab.until_marked(enrollment)
    await lab.gateway.retry("enrollment", enrollment.id, update_id="one")
    await lab.until_marked(enrollment, 2)
    assert await lab.gateway.retry("enrollment", enrollment.id, update_id="one") == "read the enrollment"
    assert "next try" in await lab.details(lab.process("enrollment", enrollment.id))


async def test_a_process_that_does_not_answer_in_time_goes_on(lab: Lab) -> None:
    """The caller is told to ask again; what was asked for happens all the same, and asking again joins it."""
    temporal = lab.settings.temporal.model_copy(update={"rpc_timeout": 0.5})
    hasty = ProcessGateway(lab.settings.model_copy(update={"temporal": temporal}), lab.client)
    order = lab.world.order()
    async with order.held("payments.open_checkout"):
        await lab.gateway.ensure("order", order.id)
        with pytest.raises(ServiceUnavailable):
            await hasty.place_order(order.id, update_id="place")
    assert (await lab.gateway.place_order(order.id, update_id="place")).has_checkout
    assert order.count("payments.open_checkout") == 1


async def test_without_temporal_the_caller_is_told_to_come_again() -> None:
    settings = settings_of("nowhere")
    address = f"127.0.0.1:{free_port()}"
    temporal = settings.temporal.model_copy(update={"address": address, "rpc_timeout": 0.5})
    gateway = ProcessGateway(settings.model_copy(update={"temporal": temporal}))
    for ask in (gateway.ping(), gateway.poke("order", new_id()), gateway.place_order(new_id(), update_id="place")):
        with pytest.raises(ServiceUnavailable):
            await ask


async def test_temporal_answers(lab: Lab) -> None:
    await lab.gateway.ping()
