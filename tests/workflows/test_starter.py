"""Events that start or poke a process, delivered once, twice or late."""

from uuid import UUID

from core import clock
from core.ids import new_id
from core.messaging.envelope import Envelope
from domain.contracts.events import (
    CoursePublished,
    EnrollmentGranted,
    EnrollmentRevoked,
    EnrollmentWithdrawn,
    Event,
    OrderPlaced,
    PaymentUnapplied,
)
from tests.workflows.lab import Lab
from workflows.starter import handle


async def _deliver(lab: Lab, event: Event, *, times: int = 1) -> None:
    envelope = Envelope(id=new_id(), subject=event.subject, time=clock.now(), event=event)
    for _ in range(times):
        await handle(lab.gateway, envelope)


def _about(enrollment_id: UUID) -> dict[str, UUID]:
    return {"enrollment_id": enrollment_id, "course_id": new_id(), "student_id": new_id()}


async def test_a_placed_order_gets_its_process(lab: Lab) -> None:
    order = lab.world.order(free=True)
    placed = OrderPlaced(order_id=order.id, student_id=new_id())
    await _deliver(lab, placed)
    assert (await lab.process("order", order.id).result())["status"] == "paid"
    await _deliver(lab, placed, times=2)
    assert order.count("payments.open_checkout") == 1


async def test_the_event_finds_the_process_that_the_request_started(lab: Lab) -> None:
    order = lab.world.order()
    await lab.gateway.place_order(order.id, update_id="place")
    run = await lab.run_id(lab.process("order", order.id))
    await _deliver(lab, OrderPlaced(order_id=order.id, student_id=new_id()))
    assert await lab.run_id(lab.process("order", order.id)) == run
    assert order.count("payments.open_checkout") == 1


async def test_stray_money_gets_its_refund(lab: Lab) -> None:
    refund = lab.world.refund("succeeded")
    event = PaymentUnapplied(
        payment_id=new_id(), refund_id=refund.id, order_id=new_id(), student_id=new_id(), reason="duplicate"
    )
    await _deliver(lab, event, times=2)
    assert await lab.process("refund", refund.id).result() == {"status": "succeeded"}
    await _deliver(lab, event)
    assert refund.calls == ["refunds.submit"]


async def test_an_enrollment_is_accompanied_until_it_is_revoked(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    granted = EnrollmentGranted(**_about(enrollment.id))
    await _deliver(lab, granted, times=2)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "**active**")
    assert await lab.attribute(process, "LyceumCourse") == str(granted.course_id)
    enrollment.state = type(enrollment.state)(status="revoked")
    await _deliver(lab, EnrollmentRevoked(**_about(enrollment.id)))
    assert (await process.result())["status"] == "revoked"


async def test_what_an_ended_process_said_does_not_start_it_again(lab: Lab) -> None:
    enrollment = lab.world.enrollment()
    await lab.gateway.withdraw(enrollment.id, update_id="leave")
    process = lab.process("enrollment", enrollment.id)
    await process.result()
    run = await lab.run_id(process)
    await _deliver(lab, EnrollmentWithdrawn(**_about(enrollment.id)))
    assert await lab.run_id(process) == run


async def test_other_events_start_nothing(lab: Lab) -> None:
    await _deliver(lab, CoursePublished(course_id=new_id()))
