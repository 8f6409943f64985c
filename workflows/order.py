"""Order: from a placed order to money booked and settled, or to the seats given back.

The process holds ids and states only. Whatever wakes it (a webhook, the checkout's end, a cancellation, a poll), it
does the same: Stripe is read again, what is new is booked in one transaction, and the order's state decides the rest.
"""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.shared.policies import DB, STRIPE
from workflows.shared.process import Process, Refused

with workflow.unsafe.imports_passed_through():
    from activities.orders import OrderActivities
    from activities.payments import PaymentActivities
    from domain.contracts.processes import (
        ApplyPayments,
        CheckoutCreated,
        OrderState,
        PaymentsSeen,
        ProcessInput,
        RecordCheckout,
    )
    from domain.orders import OPEN, POLL_AFTER, SETTLE_POLL, CheckoutRefused, OrderClosed, OrderStatus, PaymentUnderWay

MAX_CHECKOUTS = 3
"""Checkout Sessions Stripe may refuse for good before the order is given up."""
_REFUSED = frozenset({CheckoutRefused.__name__})


@workflow.defn(name="Order")
class OrderWorkflow(Process):
    kind = "order"

    @workflow.init
    def __init__(self, input: ProcessInput) -> None:
        super().__init__(input)
        self._order: OrderState | None = None
        self._cancel = False

    @workflow.update(name="place")
    async def place(self) -> OrderState:
        """Answers once the order has a payment page or needs none."""
        await self._answered(lambda: self._placed)
        return self._known

    @workflow.update(name="cancel")
    async def cancel(self) -> OrderState:
        """Gives the order up, unless its payment is faster; answers what became of it.

        Refused while the payment is under way at a bank, which may take days and cannot be stopped from here.
        """
        self._cancel = self._poked = True
        await self._answered(lambda: not self._open or not self._cancel)
        if self._open:
            raise ApplicationError("The payment is under way.", type=PaymentUnderWay.__name__)
        return self._known

    @cancel.validator
    def _may_cancel(self) -> None:
        if not self._open:
            raise ApplicationError("The order has ended.", type=OrderClosed.__name__)

    @property
    def _known(self) -> OrderState:
        if self._order is None:
            raise RuntimeError("the order has not been read yet")
        return self._order

    @property
    def _open(self) -> bool:
        return self._order is None or self._order.status in OPEN

    @property
    def _placed(self) -> bool:
        return self._order is not None and (self._order.has_checkout or not self._open)

    @workflow.run
    async def run(self, input: ProcessInput) -> OrderState:
        self._show(OrderStatus.PENDING, "the payment page")
        await self._open_checkout()
        while self._open:
            await self._await_payment()
        while self._poked or not self._known.settled:
            await self._await_settlement()
        self._show(self._known.status, "nothing")
        await self._finish()
        return self._known

    async def _open_checkout(self) -> None:
        for _ in range(MAX_CHECKOUTS):
            try:
                opened = await self._step(
                    PaymentActivities.open_checkout,
                    self._subject,
                    STRIPE,
                    "open a payment page at Stripe",
                    refusals=_REFUSED,
                )
            except Refused:
                await self._step(OrderActivities.renew_checkout, self._subject, DB, "number the next payment page")
                continue
            if opened.checkout is None:
                self._order = opened.order
                if not self._open:  # woken after its end: late, double or disputed money
                    self._poked = True
                elif not self._order.has_checkout:  # it costs nothing
                    await self._reconcile(PaymentsSeen(open=False), close=OrderStatus.EXPIRED)
            else:
                await self._record(opened.checkout)
            return
        await self._reconcile(PaymentsSeen(open=False), close="checkout_refused")

    async def _record(self, checkout: CheckoutCreated) -> None:
        self._order = await self._step(
            OrderActivities.record_checkout,
            lambda: RecordCheckout(order_id=self._input.subject_id, checkout=checkout, now=workflow.now()),
            DB,
            "store the payment page",
        )

    async def _await_payment(self) -> None:
        poll_at = self._known.expires_at + POLL_AFTER
        if poll_at <= workflow.now():  # money is under way at a bank
            poll_at = workflow.now() + SETTLE_POLL
        self._show(OrderStatus.PAYING, "payment", poll_at, "read Stripe, give the seats back")
        woken = await self._wait(poll_at, "the checkout has ended")
        self._poked = False
        if woken and not self._cancel:
            seen = await self._read()
            await self._reconcile(seen, close=None if seen.open else OrderStatus.EXPIRED)
        else:
            seen = await self._step(
                PaymentActivities.close_checkouts, self._subject, STRIPE, "end the payment page at Stripe"
            )
            reason = OrderStatus.CANCELED if self._cancel else OrderStatus.EXPIRED
            await self._reconcile(seen, close=None if seen.open else reason)
            self._cancel = False  # done, or refused because the payment is under way
        self._continue_if_long()

    async def _await_settlement(self) -> None:
        poll_at = workflow.now() + SETTLE_POLL
        self._show(self._known.status, "settlement by Stripe", poll_at, "read Stripe")
        await self._wait(poll_at, "read Stripe for the settlement")
        self._poked = False
        await self._reconcile(await self._read())
        self._continue_if_long()

    async def _read(self) -> PaymentsSeen:
        return await self._step(
            PaymentActivities.read_payments, self._subject, STRIPE, "read the order's payments at Stripe"
        )

    async def _reconcile(self, seen: PaymentsSeen, *, close: str | None = None) -> None:
        self._order = await self._book(close)
        if seen.open and not self._open:  # another page of the same order could still be paid, and may just have been
            await self._step(PaymentActivities.close_checkouts, self._subject, STRIPE, "end the other payment pages")
            self._order = await self._book()

    async def _book(self, close: str | None = None) -> OrderState:
        return await self._step(
            OrderActivities.apply_payments,
            lambda: ApplyPayments(order_id=self._input.subject_id, now=workflow.now(), close=close),
            DB,
            "book the payments",
        )
