"""The runs whose histories are kept: one per path a process can take. Each answers the handle of the recorded run."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from core import clock
from core.temporal import task_queue
from domain.orders import POLL_AFTER, SETTLE_POLL
from tests.support.wait import until
from tests.workflows.lab import Handle, Lab
from tests.workflows.world import CHECKOUT_LIFE, ScriptedOrder
from workflows.upload_purge import UploadPurgeWorkflow

Case = Callable[[Lab], Awaitable[Handle]]


async def _placed(lab: Lab) -> tuple[ScriptedOrder, Handle]:
    order = lab.world.order()
    await lab.gateway.place_order(order.id, update_id="place")
    return order, lab.process("order", order.id)


async def order_paid(lab: Lab) -> Handle:
    """Paid, settled an hour and a webhook later."""
    order, process = await _placed(lab)
    order.pay("captured")
    await lab.gateway.poke("order", order.id)
    await lab.shows(process, "settlement by Stripe")
    await lab.clock.advance(process, timedelta(hours=1))
    await until(lambda: _times(order, 2))
    order.pay("settled")
    await lab.gateway.poke("order", order.id)
    return process


async def _times(order: ScriptedOrder, bookings: int) -> bool:
    return order.count("orders.apply_payments") >= bookings


async def order_expired_by_poll(lab: Lab) -> Handle:
    """Every webhook was lost; money was on its way at the first poll and never came."""
    order, process = await _placed(lab)
    order.page = "processing"
    await lab.clock.advance(process, CHECKOUT_LIFE + POLL_AFTER)
    await until(lambda: _times(order, 1))
    order.page = "failed"
    await lab.clock.advance(process, SETTLE_POLL)
    return process


async def order_canceled(lab: Lab) -> Handle:
    order, process = await _placed(lab)
    await lab.gateway.cancel_order(order.id, update_id="cancel")
    return process


async def order_free(lab: Lab) -> Handle:
    order = lab.world.order(free=True)
    await lab.gateway.place_order(order.id, update_id="place")
    return lab.process("order", order.id)


async def order_refused(lab: Lab) -> Handle:
    """Stripe refuses the payment page until the order is given up."""
    order = lab.world.order()
    order.fail("payments.open_checkout", "CheckoutRefused", times=3)
    await lab.gateway.place_order(order.id, update_id="place")
    return lab.process("order", order.id)


async def order_late_money(lab: Lab) -> Handle:
    """A fresh run for an order that had ended; another of its pages is still open."""
    order, process = await _placed(lab)
    await lab.gateway.cancel_order(order.id, update_id="cancel")
    await process.result()
    order.pay()
    order.other_page_open = True
    await lab.gateway.poke("order", order.id)
    return lab.process("order", order.id)


async def order_stuck(lab: Lab) -> Handle:
    """Stuck twice: the slow clock tries again, then an operator does."""
    order = lab.world.order()
    order.fail("payments.open_checkout", "StripeMisuse", times=2)
    await lab.gateway.ensure("order", order.id)
    process = lab.process("order", order.id)
    await lab.until_marked(order)
    await lab.clock.advance(process, timedelta(minutes=5))
    await lab.until_marked(order, 2)
    await lab.gateway.retry("order", order.id, update_id="retry")
    await lab.shows(process, "waiting for payment")
    await lab.gateway.cancel_order(order.id, update_id="cancel")
    return process


async def refund_pending(lab: Lab) -> Handle:
    refund = lab.world.refund("pending", "pending", "succeeded")
    await lab.gateway.ensure("refund", refund.id)
    process = lab.process("refund", refund.id)
    await lab.shows(process, "the refund at Stripe")
    await lab.clock.advance(process, timedelta(hours=1))
    await lab.gateway.poke("refund", refund.id)
    return process


async def refund_needs_a_person(lab: Lab) -> Handle:
    """The first attempt is spent, the second refused, the third fails after it was accepted; the fourth arrives."""
    refund = lab.world.refund("needs_manual")
    refund.fail("refunds.submit", "RefundAttemptSpent")
    refund.fail("refunds.submit", "StripeRefused")
    await lab.gateway.ensure("refund", refund.id)
    await lab.until_marked(refund)
    await lab.gateway.retry("refund", refund.id, update_id="first")
    await lab.until_marked(refund, 2)
    refund.answer("succeeded")
    await lab.gateway.retry("refund", refund.id, update_id="second")
    return lab.process("refund", refund.id)


async def enrollment_withdrawn(lab: Lab) -> Handle:
    enrollment = lab.world.enrollment()
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "the student")
    await lab.gateway.withdraw(enrollment.id, update_id="leave")
    return process


async def enrollment_expired(lab: Lab) -> Handle:
    """The last day moved once."""
    enrollment = lab.world.enrollment(expires_at=clock.now() + timedelta(days=30))
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "the student")
    moved = clock.now() + timedelta(days=60)
    enrollment.state = type(enrollment.state)(status="active", expires_at=moved)
    await lab.clock.advance(process, timedelta(days=30))
    await lab.shows(process, f"until {moved:%Y-%m-%d}")
    await lab.clock.advance(process, timedelta(days=30))
    return process


async def enrollment_revoked(lab: Lab) -> Handle:
    enrollment = lab.world.enrollment()
    await lab.gateway.ensure("enrollment", enrollment.id)
    process = lab.process("enrollment", enrollment.id)
    await lab.shows(process, "the student")
    enrollment.state = type(enrollment.state)(status="revoked")
    await asyncio.gather(*(lab.gateway.poke_running("enrollment", enrollment.id) for _ in range(3)))
    return process


async def upload_purge(lab: Lab) -> Handle:
    return await lab.client.start_workflow(
        UploadPurgeWorkflow.run, id="upload-purge", task_queue=task_queue(lab.settings, "core")
    )


CASES: dict[str, dict[str, Case]] = {
    "Order": {
        "paid": order_paid,
        "expired-by-poll": order_expired_by_poll,
        "canceled": order_canceled,
        "free": order_free,
        "refused": order_refused,
        "late-money": order_late_money,
        "stuck": order_stuck,
    },
    "Refund": {"pending": refund_pending, "needs-a-person": refund_needs_a_person},
    "Enrollment": {
        "withdrawn": enrollment_withdrawn,
        "expired": enrollment_expired,
        "revoked": enrollment_revoked,
    },
    "UploadPurge": {"purged": upload_purge},
}
