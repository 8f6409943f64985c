"""Every branch of the Order process."""

import asyncio
from datetime import timedelta

import pytest

from domain.orders import POLL_AFTER, SETTLE_POLL, OrderClosed, PaymentUnderWay
from tests.support.wait import until
from tests.workflows.lab import Handle, Lab
from tests.workflows.world import CHECKOUT_LIFE, ScriptedOrder

OPENED = ["payments.open_checkout", "orders.record_checkout"]
READ = ["payments.read_payments", "orders.apply_payments"]
CLOSED = ["payments.close_checkouts", "orders.apply_payments"]
MINUTE = timedelta(minutes=1)


async def _placed(lab: Lab, **script: bool) -> tuple[ScriptedOrder, Handle]:
    """An order that waits for its payment."""
    order = lab.world.order(**script)
    placed = await lab.gateway.place_order(order.id, update_id="place")
    assert (placed.status, placed.has_checkout) == ("paying", True)
    return order, lab.process("order", order.id)


async def _called(order: ScriptedOrder, name: str, times: int = 1) -> None:
    async def reached() -> bool:
        return order.count(name) >= times

    await until(reached, timeout=60)


async def _ended(process: Handle, status: str) -> None:
    ended = await process.result()
    assert (ended["status"], ended["settled"]) == (status, True)


async def test_paid_and_settled(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert order.calls == OPENED + READ


async def test_the_operators_see_what_a_process_waits_for(lab: Lab) -> None:
    order, process = await _placed(lab)
    due = order.state.expires_at + POLL_AFTER
    assert await lab.details(process) == (
        f"**paying** · waiting for payment until {due:%Y-%m-%d %H:%M:%S} UTC\n\nthen: read Stripe, give the seats back"
    )
    assert await lab.attribute(process, "LyceumState") == "paying"
    assert await lab.attribute(process, "LyceumKind") == "order"
    order.pay("captured")
    await lab.gateway.poke("order", order.id)
    await lab.shows(process, "**paid** · waiting for settlement by Stripe until ")
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert await lab.attribute(process, "LyceumState") == "paid"


async def test_paid_then_settled_by_a_poke(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay("captured")
    await lab.gateway.poke("order", order.id)
    await lab.shows(process, "settlement by Stripe")
    order.pay("settled")
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert order.calls == OPENED + READ + READ


async def test_paid_then_settled_by_the_hourly_poll(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay("captured")
    await lab.gateway.poke("order", order.id)
    await lab.shows(process, "settlement by Stripe")
    await lab.clock.advance(process, timedelta(hours=1))
    await _called(order, "orders.apply_payments", 2)
    order.pay("settled")
    await lab.shows(process, "settlement by Stripe")
    await lab.clock.advance(process, timedelta(hours=1))
    await _ended(process, "paid")
    assert order.calls == OPENED + READ * 3


async def test_expires_when_stripe_says_so(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.page = "expired"
    await lab.gateway.poke("order", order.id)
    await _ended(process, "expired")
    assert order.calls == OPENED + READ
    assert order.closes == ["expired"]


async def test_expires_by_itself_when_every_webhook_is_lost(lab: Lab) -> None:
    order, process = await _placed(lab)
    await lab.clock.advance(process, CHECKOUT_LIFE + POLL_AFTER - MINUTE)
    assert order.calls == OPENED
    await lab.clock.advance(process, MINUTE)
    await _ended(process, "expired")
    assert order.calls == OPENED + CLOSED
    assert order.closes == ["expired"]
    assert order.clocks[-1] >= order.state.expires_at + POLL_AFTER


async def test_the_last_poll_finds_a_payment_whose_webhook_was_lost(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    await lab.clock.advance(process, CHECKOUT_LIFE + POLL_AFTER)
    await _ended(process, "paid")
    assert order.calls == OPENED + CLOSED


async def test_money_on_its_way_at_the_last_poll_is_asked_for_again(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.page = "processing"
    await lab.clock.advance(process, CHECKOUT_LIFE + POLL_AFTER)
    await _called(order, "orders.apply_payments")
    assert order.closes == []
    order.pay()
    await lab.shows(process, "waiting for payment")
    await lab.clock.advance(process, SETTLE_POLL - MINUTE)
    assert order.calls == OPENED + CLOSED
    await lab.clock.advance(process, MINUTE)
    await _ended(process, "paid")
    assert order.calls == OPENED + CLOSED * 2


async def test_an_order_that_costs_nothing_is_fulfilled_at_once(lab: Lab) -> None:
    order = lab.world.order(free=True)
    placed = await lab.gateway.place_order(order.id, update_id="place")
    assert (placed.status, placed.has_checkout) == ("paid", False)
    await _ended(lab.process("order", order.id), "paid")
    assert order.calls == ["payments.open_checkout", "orders.apply_payments"]


async def test_an_order_that_costs_nothing_expires_when_the_course_is_full(lab: Lab) -> None:
    order = lab.world.order(free=True, full=True)
    assert (await lab.gateway.place_order(order.id, update_id="place")).status == "expired"
    assert order.closes == ["expired"]


async def test_canceled_before_it_has_a_payment_page(lab: Lab) -> None:
    order = lab.world.order()
    async with order.held("payments.open_checkout"):
        await lab.gateway.ensure("order", order.id)
        cancel = asyncio.ensure_future(lab.gateway.cancel_order(order.id, update_id="cancel"))
        await lab.updates_arrived(lab.process("order", order.id), 1)
    assert (await cancel).status == "canceled"
    assert order.calls == OPENED + CLOSED
    assert order.page == "expired"


async def test_canceled_while_it_waits_for_its_payment(lab: Lab) -> None:
    order, process = await _placed(lab)
    assert (await lab.gateway.cancel_order(order.id, update_id="cancel")).status == "canceled"
    await _ended(process, "canceled")
    assert order.calls == OPENED + CLOSED
    assert order.closes == ["canceled"]


async def test_a_payment_is_faster_than_the_cancellation(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    assert (await lab.gateway.cancel_order(order.id, update_id="cancel")).status == "paid"
    await _ended(process, "paid")


async def test_a_payment_under_way_at_a_bank_cannot_be_canceled(lab: Lab) -> None:
    """Some payment methods take days after the page is completed; nobody waits for them, and no history grows."""
    order, process = await _placed(lab)
    order.page = "processing"
    for number in (1, 2):
        with pytest.raises(PaymentUnderWay):
            await lab.gateway.cancel_order(order.id, update_id=f"cancel-{number}")
        assert order.calls == OPENED + CLOSED * number
    assert order.closes == []
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")


async def test_a_payment_that_fails_at_the_bank_ends_the_order(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.page = "processing"
    await lab.gateway.poke("order", order.id)
    await _called(order, "orders.apply_payments")
    order.page = "failed"
    await lab.gateway.poke("order", order.id)
    await _ended(process, "expired")
    assert order.calls == OPENED + READ * 2


async def test_a_paid_order_cannot_be_canceled(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay("captured")
    await lab.gateway.poke("order", order.id)
    await lab.shows(process, "settlement by Stripe")
    with pytest.raises(OrderClosed, match=r"The order has ended\."):
        await lab.gateway.cancel_order(order.id, update_id="cancel")
    assert order.calls == OPENED + READ


async def test_canceling_an_ended_order_answers_how_it_ended(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert (await lab.gateway.cancel_order(order.id, update_id="cancel")).status == "paid"


@pytest.mark.parametrize("refusals", [1, 2])
async def test_a_refused_payment_page_is_numbered_anew(lab: Lab, refusals: int) -> None:
    order = lab.world.order()
    order.fail("payments.open_checkout", "CheckoutRefused", times=refusals)
    placed = await lab.gateway.place_order(order.id, update_id="place")
    assert (placed.status, placed.checkout_n) == ("paying", 1 + refusals)
    assert order.calls == ["payments.open_checkout", "orders.renew_checkout"] * refusals + OPENED


async def test_an_order_whose_payment_page_is_refused_three_times_is_given_up(lab: Lab) -> None:
    order = lab.world.order()
    order.fail("payments.open_checkout", "CheckoutRefused", times=3)
    assert (await lab.gateway.place_order(order.id, update_id="place")).status == "expired"
    assert order.closes == ["checkout_refused"]
    assert order.count("payments.open_checkout") == 3


async def test_late_money_is_read_by_a_fresh_run(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.page = "expired"
    await lab.gateway.poke("order", order.id)
    await _ended(process, "expired")
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(lab.process("order", order.id), "paid")
    assert order.calls == OPENED + READ + ["payments.open_checkout"] + READ


async def test_a_late_poke_without_news_changes_nothing(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    state = order.state
    await lab.gateway.poke("order", order.id)
    await _ended(lab.process("order", order.id), "paid")
    assert order.state == state
    assert order.calls == OPENED + READ + ["payments.open_checkout"] + READ


async def test_pokes_without_news_keep_the_order_waiting(lab: Lab) -> None:
    order, process = await _placed(lab)
    for seen in (1, 2, 3):
        await lab.gateway.poke("order", order.id)
        await _called(order, "orders.apply_payments", seen)
    await lab.shows(process, "waiting for payment")
    assert order.closes == []
    assert order.state.status == "paying"


async def test_the_other_payment_pages_of_a_paid_order_are_ended(lab: Lab) -> None:
    order, process = await _placed(lab)
    order.pay()
    order.other_page_open = True
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert order.calls == OPENED + READ + CLOSED
    assert not order.other_page_open


async def test_a_poke_while_the_last_payment_is_booked_is_not_lost(lab: Lab) -> None:
    """A second payment of the same order: its webhook comes when Stripe has just been read."""
    order, process = await _placed(lab)
    order.pay()
    async with order.held("orders.apply_payments"):
        await lab.gateway.poke("order", order.id)
        await _called(order, "orders.apply_payments")
        await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")
    assert order.calls == OPENED + READ * 2


async def test_placing_twice_opens_one_payment_page(lab: Lab) -> None:
    order, process = await _placed(lab)
    first = await lab.gateway.place_order(order.id, update_id="place")
    assert first == await lab.gateway.place_order(order.id, update_id="place")
    assert (await lab.gateway.place_order(order.id, update_id="another")).has_checkout
    assert order.calls == OPENED
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")


async def test_placing_with_the_same_id_after_the_end_answers_as_before(lab: Lab) -> None:
    order = lab.world.order(free=True)
    first = await lab.gateway.place_order(order.id, update_id="place")
    await _ended(lab.process("order", order.id), "paid")
    assert await lab.gateway.place_order(order.id, update_id="place") == first
    assert order.calls == ["payments.open_checkout", "orders.apply_payments"]


async def test_placing_joins_the_process_an_event_started(lab: Lab) -> None:
    order = lab.world.order()
    async with order.held("orders.record_checkout"):
        await lab.gateway.ensure("order", order.id)
        placing = asyncio.ensure_future(lab.gateway.place_order(order.id, update_id="place"))
        await lab.updates_arrived(lab.process("order", order.id), 1)
    assert (await placing).has_checkout
    assert order.calls == OPENED


async def test_an_order_nobody_waits_for_finishes(lab: Lab) -> None:
    order = lab.world.order()
    await lab.gateway.ensure("order", order.id)
    process = lab.process("order", order.id)
    await lab.shows(process, "waiting for payment")
    order.pay()
    await lab.gateway.poke("order", order.id)
    await _ended(process, "paid")


async def test_activities_get_the_clock_of_the_process(lab: Lab) -> None:
    order, process = await _placed(lab)
    started = order.clocks[0]
    await lab.clock.advance(process, timedelta(hours=3))
    await lab.gateway.poke("order", order.id)
    await _called(order, "payments.read_payments")
    assert timedelta(hours=3) <= order.clocks[-1] - started < timedelta(hours=4)
