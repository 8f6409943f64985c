"""PostgreSQL and Stripe as the processes see them: activities under their real names, steered by each test.

A subject (an order, a refund, an enrollment) has the state its test gives it, keeps what was asked of it, and fails
where it is told to. The real activities are proven on real servers by `tests/faults`.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError

from core import clock
from core.ids import new_id
from domain.contracts.processes import (
    ApplyPayments,
    CheckoutCreated,
    CheckoutOpened,
    EndEnrollment,
    EnrollmentState,
    OrderState,
    PaymentsSeen,
    RecordCheckout,
    RefundState,
    Stuck,
    Subject,
    UploadsPurged,
)
from domain.orders import OPEN

CHECKOUT_LIFE = timedelta(hours=24)


class Scripted:
    """A subject: its calls in order, the failures that wait for it, the calls that are held back."""

    def __init__(self) -> None:
        self.id = new_id()
        self.calls: list[str] = []
        self.clocks: list[datetime] = []
        self._failures: dict[str, deque[ApplicationError]] = defaultdict(deque)
        self._held: dict[str, asyncio.Event] = {}

    def fail(self, name: str, error: str, *, times: int = 1, retryable: bool = False) -> None:
        """The next `times` calls of the activity end with that error type."""
        failure = ApplicationError("as scripted", type=error, non_retryable=not retryable)
        self._failures[name].extend([failure] * times)

    def repair(self, name: str) -> None:
        """No further call of the activity fails."""
        self._failures[name].clear()

    @asynccontextmanager
    async def held(self, name: str) -> AsyncIterator[None]:
        """Calls of the activity do not return before the block is left."""
        self._held[name] = asyncio.Event()
        try:
            yield
        finally:
            self._held.pop(name).set()

    async def call(self, name: str, now: datetime | None = None) -> None:
        self.calls.append(name)
        if now is not None:
            self.clocks.append(now)
        if name in self._held:
            await self._held[name].wait()
        if self._failures[name]:
            raise self._failures[name].popleft()

    def count(self, name: str) -> int:
        return self.calls.count(name)


class ScriptedOrder(Scripted):
    """`page` is Stripe's Checkout Session (open, processing, failed, complete, expired), `money` is none, captured or
    settled."""

    def __init__(self, *, free: bool = False, full: bool = False) -> None:
        super().__init__()
        self.free, self.full = free, full
        self.page, self.money = "", "none"
        self.other_page_open = False
        self.closes: list[str] = []
        self._settled = False
        self.state = OrderState(status="pending", expires_at=clock.now() + CHECKOUT_LIFE, settled=True)

    def pay(self, money: str = "settled") -> None:
        """The student pays, or Stripe settles what was paid."""
        self.page, self.money = "complete", money

    def seen(self) -> PaymentsSeen:
        return PaymentsSeen(open=self.page in ("open", "processing") or self.other_page_open)

    def close_pages(self) -> None:
        if self.page == "open":
            self.page = "expired"
        self.other_page_open = False

    def apply(self, close: str | None) -> OrderState:
        """What `services.booking.apply` makes of it, without the bookings."""
        if close:
            self.closes.append(close)
        status = self.state.status
        if self.money != "none" or (self.free and status in OPEN and not self.full):
            status = "paid"
        elif close and status in OPEN:
            status = "canceled" if close == "canceled" else "expired"
        self.state = replace(self.state, status=status, settled=self.money != "captured")
        return self.state


class ScriptedRefund(Scripted):
    """`answers` is what Stripe says next time it is asked; the last answer stays."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.attempt = 1
        self._answers = deque(answers)

    def answer(self, *answers: str) -> None:
        self._answers = deque(answers)

    def ask(self) -> RefundState:
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.popleft()
        return RefundState(status=answer)


class ScriptedEnrollment(Scripted):
    def __init__(self, *, status: str = "active", expires_at: datetime | None = None) -> None:
        super().__init__()
        self.state = EnrollmentState(status=status, expires_at=expires_at)
        self.ended: list[str] = []


S = TypeVar("S", bound=Scripted)


class World:
    """Every subject of the tests, and the operators' projection."""

    def __init__(self) -> None:
        self._subjects: dict[UUID, Scripted] = {}
        self.stuck: dict[UUID, list[Stuck]] = defaultdict(list)
        self.recovered: dict[UUID, list[Stuck]] = defaultdict(list)
        self.purge = Scripted()

    def order(self, **script: Any) -> ScriptedOrder:
        return self._add(ScriptedOrder(**script))

    def refund(self, *answers: str) -> ScriptedRefund:
        return self._add(ScriptedRefund(*answers))

    def enrollment(self, **script: Any) -> ScriptedEnrollment:
        return self._add(ScriptedEnrollment(**script))

    def _add(self, subject: S) -> S:
        self._subjects[subject.id] = subject
        return subject

    async def _order(self, name: str, order_id: UUID, now: datetime) -> ScriptedOrder:
        order = self._subjects[order_id]
        assert isinstance(order, ScriptedOrder)
        await order.call(name, now)
        return order

    async def _refund(self, name: str, subject: Subject) -> ScriptedRefund:
        refund = self._subjects[subject.id]
        assert isinstance(refund, ScriptedRefund)
        await refund.call(name, subject.now)
        return refund

    async def _enrollment(self, name: str, enrollment_id: UUID, now: datetime) -> ScriptedEnrollment:
        enrollment = self._subjects[enrollment_id]
        assert isinstance(enrollment, ScriptedEnrollment)
        await enrollment.call(name, now)
        return enrollment

    @activity.defn(name="payments.open_checkout")
    async def open_checkout(self, subject: Subject) -> CheckoutOpened:
        order = await self._order("payments.open_checkout", subject.id, subject.now)
        if order.state.status not in OPEN or order.state.has_checkout or order.free:
            return CheckoutOpened(order=order.state)
        order.page = "open"
        number, expires_at = order.state.checkout_n, order.state.expires_at
        created = CheckoutCreated(n=number, stripe_session=f"cs_{number}", url="https://pay", expires_at=expires_at)
        return CheckoutOpened(order=order.state, checkout=created)

    @activity.defn(name="payments.read_payments")
    async def read_payments(self, subject: Subject) -> PaymentsSeen:
        return (await self._order("payments.read_payments", subject.id, subject.now)).seen()

    @activity.defn(name="payments.close_checkouts")
    async def close_checkouts(self, subject: Subject) -> PaymentsSeen:
        order = await self._order("payments.close_checkouts", subject.id, subject.now)
        order.close_pages()
        return order.seen()

    @activity.defn(name="orders.record_checkout")
    async def record_checkout(self, command: RecordCheckout) -> OrderState:
        order = await self._order("orders.record_checkout", command.order_id, command.now)
        order.state = replace(order.state, status="paying", has_checkout=True)
        return order.state

    @activity.defn(name="orders.renew_checkout")
    async def renew_checkout(self, subject: Subject) -> OrderState:
        order = await self._order("orders.renew_checkout", subject.id, subject.now)
        order.state = replace(order.state, checkout_n=order.state.checkout_n + 1)
        return order.state

    @activity.defn(name="orders.apply_payments")
    async def apply_payments(self, command: ApplyPayments) -> OrderState:
        order = await self._order("orders.apply_payments", command.order_id, command.now)
        return order.apply(command.close)

    @activity.defn(name="refunds.submit")
    async def submit_refund(self, subject: Subject) -> RefundState:
        return (await self._refund("refunds.submit", subject)).ask()

    @activity.defn(name="refunds.read")
    async def read_refund(self, subject: Subject) -> RefundState:
        return (await self._refund("refunds.read", subject)).ask()

    @activity.defn(name="refunds.next_attempt")
    async def next_attempt(self, subject: Subject) -> RefundState:
        refund = await self._refund("refunds.next_attempt", subject)
        refund.attempt += 1
        return RefundState(status="reserved")

    @activity.defn(name="enrollments.read")
    async def read_enrollment(self, subject: Subject) -> EnrollmentState:
        return (await self._enrollment("enrollments.read", subject.id, subject.now)).state

    @activity.defn(name="enrollments.end")
    async def end_enrollment(self, command: EndEnrollment) -> EnrollmentState:
        enrollment = await self._enrollment("enrollments.end", command.enrollment_id, command.now)
        enrollment.ended.append(command.status)
        if enrollment.state.status == "active":
            enrollment.state = replace(enrollment.state, status=command.status)
        return enrollment.state

    @activity.defn(name="processes.mark_stuck")
    async def mark_stuck(self, stuck: Stuck) -> None:
        await self._subjects[stuck.subject_id].call("processes.mark_stuck")
        self.stuck[stuck.subject_id].append(stuck)

    @activity.defn(name="processes.mark_recovered")
    async def mark_recovered(self, stuck: Stuck) -> None:
        await self._subjects[stuck.subject_id].call("processes.mark_recovered")
        self.recovered[stuck.subject_id].append(stuck)

    @activity.defn(name="uploads.purge_abandoned")
    async def purge_abandoned(self) -> UploadsPurged:
        await self.purge.call("uploads.purge_abandoned")
        return UploadsPurged(count=7)

    def activities_of(self, queue: str) -> Sequence[Callable[..., Any]]:
        """The same division among task queues as `workflows.worker` makes."""
        if queue == "stripe":
            return [
                self.open_checkout,
                self.read_payments,
                self.close_checkouts,
                self.submit_refund,
                self.read_refund,
            ]
        if queue == "core":
            return [
                self.record_checkout,
                self.renew_checkout,
                self.apply_payments,
                self.next_attempt,
                self.read_enrollment,
                self.end_enrollment,
                self.mark_stuck,
                self.mark_recovered,
            ]
        return [self.purge_abandoned]
