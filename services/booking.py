"""Booking an order's payments exactly once: what they buy is granted and posted, what they do not goes back."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from prometheus_client import Counter
from sqlalchemy import bindparam, exists, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core import logs
from core.settings import PlatformSettings
from domain import ledger as postings
from domain.contracts.events import OrderPaid, OrderSettled, PaymentUnapplied
from domain.contracts.processes import ApplyPayments, OrderState
from domain.orders import OPEN, Charge, ClaimState, OrderStatus, Payable, PayableLine, Unapplied, Verdict, judge
from domain.pricing import Share, split
from models.order import CheckoutSession, Order, OrderLine
from models.payment import Payment
from services import earnings, enrollments, ledger, orders, outbox, refunds, seats, timeline
from services.seats import Offer

log = logs.get_logger(__name__)
UNAPPLIED = Counter("lyceum_unapplied_payments_total", "Payments of which some buys nothing and goes back", ["reason"])

_PAYMENTS = select(Payment).where(Payment.order_id == bindparam("order_id")).order_by(Payment.created_at, Payment.id)
_FAILED = select(
    exists().where(CheckoutSession.order_id == bindparam("order_id"), CheckoutSession.failed_at.is_not(None))
)
_END_CLAIMS = text(
    """
    update course_claims
       set state = case when course_id = any(cast(:granted as uuid[])) then 'owned' else 'released' end
     where order_id = :order_id and state = 'claimed'
    returning course_id, state
    """
)


async def apply(
    session: AsyncSession,
    command: ApplyPayments,
    policy: PlatformSettings,
    *,
    livemode: bool,
    workflow_id: str,
    settle: bool = True,
) -> OrderState:
    """Books every payment that is not booked yet, ends the order if asked to, settles what can be settled.

    Running it again changes nothing. Money that came in is never refused: it grants, or is parked and goes back.
    """
    order = await orders.lock(session, command.order_id)
    booking = _Booking(session, order, policy, livemode=livemode, workflow_id=workflow_id, now=command.now)
    payments = (await session.scalars(_PAYMENTS, {"order_id": order.id})).all()
    for payment in payments:
        if payment.booked_at is None:
            await booking.book(payment)
    if order.gross == 0 and order.status in OPEN:
        await booking.give_away()
    if command.close and order.status in OPEN:
        await orders.close(session, order, await _ending(session, order, payments, command.close), command.now)
    if settle:
        await _settle(session, order, payments, command.now, workflow_id)
    await session.flush()
    return await orders.describe(session, order)


async def _settle(
    session: AsyncSession, order: Order, payments: Sequence[Payment], now: datetime, workflow_id: str
) -> None:
    """Books the balance transactions of an order's booked payments: what arrived, and the fee."""
    for payment in payments:
        settlement = payment.settlement
        if payment.booked_at is None or payment.settled_at is not None or settlement is None:
            continue
        for entry in postings.settle(
            charge=payment.stripe_charge,
            order_id=order.id,
            gross=payment.amount,
            currency=payment.currency,
            settlement=settlement,
        ):
            await ledger.post(session, entry, actor="system", workflow_id=workflow_id, occurred_at=now)
        await earnings.delay_release(session, order.id, available_on=settlement.available_on)
        payment.settled_at = now
    if (
        payments
        and order.status == OrderStatus.PAID
        and order.settled_at is None
        and all(p.settled_at for p in payments)
    ):
        await _settled(session, order, payments[0], now)


async def _settled(session: AsyncSession, order: Order, first: Payment, now: datetime) -> None:
    """Every charge of a paid order is settled: the order's money is complete."""
    order.settled_at = now
    await timeline.record(
        session,
        ("order", order.id),
        "order.settled",
        now,
        actor="stripe",
        audience="staff",
        net=first.net,
        fee=first.fee,
        currency=first.settled_currency,
    )
    await outbox.emit(session, OrderSettled(order_id=order.id, student_id=order.student_id), key=str(order.id))


async def _ending(session: AsyncSession, order: Order, payments: Sequence[Payment], close: str) -> str:
    """Why an order that bought nothing ends: `expired` only when nobody paid, or tried to, in time."""
    if close != OrderStatus.EXPIRED:
        return close
    if payments:
        return payments[-1].unapplied_reason or close
    if not order.gross:
        return Unapplied.FULL
    return "payment_failed" if await session.scalar(_FAILED, {"order_id": order.id}) else close


class _Booking:
    """One order under lock while its payments are booked."""

    def __init__(
        self,
        session: AsyncSession,
        order: Order,
        policy: PlatformSettings,
        *,
        livemode: bool,
        workflow_id: str,
        now: datetime,
    ) -> None:
        self.session, self.order, self.policy, self.now = session, order, policy, now
        self.livemode, self.workflow_id = livemode, workflow_id

    async def _post(self, posting: postings.Posting) -> None:
        await ledger.post(self.session, posting, actor="system", workflow_id=self.workflow_id, occurred_at=self.now)

    async def book(self, payment: Payment) -> None:
        """Decides what the payment buys, posts it and grants it, or parks it and requests its return."""
        order = self.order
        lines = await orders.lines_of(self.session, order.id)
        offers = await seats.lock_offers(self.session, [line.course_id for line in lines])
        verdict = judge(
            Charge(payment.amount, payment.currency, payment.livemode),
            Payable(
                gross=order.gross,
                currency=order.currency,
                livemode=self.livemode,
                paid=order.status == OrderStatus.PAID,
                late=order.status not in OPEN,
            ),
            [await self._payable(line, offers[line.course_id]) for line in lines],
        )
        await timeline.record(
            self.session,
            ("order", order.id),
            "payment.received",
            self.now,
            key=f"received:{payment.id}",
            actor="stripe",
            total=payment.amount,
            currency=payment.currency,
        )
        payment.booked_at = self.now
        payment.disposition = "applied" if verdict.granted else "unapplied"
        granted = [line for line in lines if line.id in verdict.granted]
        if granted:
            await self._sell(granted)
            await self._fulfil(granted, offers)
        if verdict.unapplied:
            await self._park(payment, verdict)

    async def _payable(self, line: OrderLine, offer: Offer) -> PayableLine:
        claim = await enrollments.live_claim(self.session, self.order.student_id, line.course_id)
        taken = None
        if claim is not None and claim.order_id != self.order.id:
            taken = Unapplied.OWNED if claim.state == ClaimState.OWNED else Unapplied.ORDERED
        return PayableLine(
            id=line.id,
            gross=line.net,
            taken=taken,
            open=offer.published,
            seat=await seats.free(self.session, offer, self.now, order_id=self.order.id),
        )

    async def _sell(self, lines: Sequence[OrderLine]) -> None:
        shares: list[Share] = []
        for line in lines:
            line_shares = split(line.net, platform_bps=line.platform_bps, creators={line.creator_id: 1})
            await earnings.record_sale(
                self.session,
                line.id,
                line_shares,
                currency=self.order.currency,
                release_at=self.now + timedelta(days=self.policy.hold_days),
            )
            shares += line_shares
        gross = sum(line.net for line in lines)
        if gross:
            await self._post(
                postings.sale(order_id=self.order.id, gross=gross, currency=self.order.currency, shares=shares)
            )

    async def _fulfil(self, lines: Sequence[OrderLine], offers: dict[UUID, Offer]) -> None:
        order = self.order
        await self._own([line.course_id for line in lines])
        for line in lines:
            await enrollments.grant(
                self.session,
                order.student_id,
                offers[line.course_id],
                self.now,
                source="order",
                actor_id=order.student_id,
                order_line_id=line.id,
            )
            line.granted_at = self.now
        await seats.release(self.session, order.id)
        order.status, order.paid_at, order.closed_at, order.closed_reason = OrderStatus.PAID, self.now, None, None
        kind = "order.paid" if order.gross else "order.given"
        await timeline.record(self.session, ("order", order.id), kind, self.now)
        await outbox.emit(self.session, OrderPaid(order_id=order.id, student_id=order.student_id), key=str(order.id))

    async def _own(self, course_ids: Sequence[UUID]) -> None:
        """The order's claims on these courses become the student's own; it gives back the others."""
        ended = await self.session.execute(_END_CLAIMS, {"order_id": self.order.id, "granted": list(course_ids)})
        owned = {course_id for course_id, state in ended if state == ClaimState.OWNED}
        for course_id in course_ids:
            if course_id not in owned:
                await enrollments.claim(self.session, self.order.student_id, course_id, self.order.id, ClaimState.OWNED)

    async def _park(self, payment: Payment, verdict: Verdict) -> None:
        """Owes the stray money to the student and requests its return; its own process carries that out."""
        order, reason = self.order, str(verdict.reason)
        payment.unapplied_amount, payment.unapplied_reason = verdict.unapplied, reason
        UNAPPLIED.labels(reason).inc()
        log.warning("payment unapplied", order_id=str(order.id), payment_id=str(payment.id), reason=reason)
        await self._post(
            postings.unapplied(
                charge=payment.stripe_charge,
                order_id=order.id,
                amount=verdict.unapplied,
                currency=payment.currency,
                reason=reason,
            )
        )
        refund = await refunds.request_stray(self.session, payment, self.now)
        await self._post(
            postings.unapplied_refund(
                charge=payment.stripe_charge,
                order_id=order.id,
                refund_id=refund.id,
                amount=refund.amount,
                currency=refund.currency,
            )
        )
        await timeline.record(
            self.session,
            ("order", order.id),
            "payment.unapplied",
            self.now,
            key=f"unapplied:{payment.id}",
            actor="stripe",
            total=verdict.unapplied,
            currency=payment.currency,
            reason=reason,
            next_step="the money goes back",
        )
        await outbox.emit(
            self.session,
            PaymentUnapplied(
                payment_id=payment.id,
                refund_id=refund.id,
                order_id=order.id,
                student_id=order.student_id,
                reason=reason,
            ),
            key=str(payment.id),
        )

    async def give_away(self) -> None:
        """Fulfils an order that costs nothing; no posting is made."""
        lines = await orders.lines_of(self.session, self.order.id)
        offers = await seats.lock_offers(self.session, [line.course_id for line in lines])
        free = [line for line in lines if (await self._payable(line, offers[line.course_id])).seat]
        if free:
            await self._fulfil(free, offers)
            self.order.settled_at = self.now
