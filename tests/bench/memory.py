"""Memory of each process when idle, and after the events of many orders went through relay, broker and consumers."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiosmtpd.controller import Controller
from sqlalchemy import text

from core import clock
from core.messaging.topology import SUBSCRIPTIONS
from core.settings import SMTPSettings
from models.course import Course
from services import enrollments, seats
from tests.bench.procfs import Memory, memory
from tests.bench.world import World, world
from tests.support.ports import free_port
from tests.support.scenes import add_course, add_order
from tests.support.wait import until

_EVENTS = """
insert into outbox (id, type, subject, data)
select gen_random_uuid(), kind.type, kind.noun || '/' || kind.subject, kind.data
from generate_series(1, $1::int) copy
cross join orders o
join enrollments e on e.student_id = o.student_id
cross join lateral (values
  ('order.placed.v1', 'order', o.id, jsonb_build_object('order_id', o.id, 'student_id', o.student_id)),
  ('order.paid.v1', 'order', o.id, jsonb_build_object('order_id', o.id, 'student_id', o.student_id)),
  ('enrollment.granted.v1', 'enrollment', e.id, jsonb_build_object(
    'enrollment_id', e.id, 'course_id', e.course_id, 'student_id', e.student_id, 'source', 'order')),
  ('order.settled.v1', 'order', o.id, jsonb_build_object('order_id', o.id, 'student_id', o.student_id))
) as kind (type, noun, subject, data)
"""
"""What an order leaves in the outbox, `$1` times for each order there is."""

_WAITING = """
select exists (select from outbox where published_at is null)
  or exists (select from notifications where mail_due_at is not null)
"""

_UNHANDLED = """
select (select count(*) from outbox where type = any(:types))
  - (select count(*) from inbox where consumer = :consumer)
"""

SUBJECTS = 250
"""Different orders; each has its events many times over, under ids of their own, so that none is a duplicate."""


@dataclass(frozen=True, slots=True)
class Grown:
    """One process's memory before and after."""

    idle: Memory
    after: Memory


class _Nowhere:
    """Takes every mail and keeps none."""

    async def handle_DATA(self, *_: Any) -> str:  # noqa: N802  (aiosmtpd's name)
        return "250 taken"


async def events(orders: int) -> tuple[int, dict[str, Grown]]:
    """The events published, and memory by process before and after those of `orders` orders."""
    subjects = min(orders, SUBJECTS)
    with ExitStack() as stack:
        sink = Controller(_Nowhere(), hostname="127.0.0.1", port=free_port())
        sink.start()
        stack.callback(sink.stop)
        async with world(students=subjects, smtp=SMTPSettings(url=f"smtp://127.0.0.1:{sink.port}")) as made:
            await _sell(made)
            idle = {name: memory(pid) for name, pid in made.pids().items()}
            inserted = await made.owner.execute(_EVENTS, orders // subjects, timeout=600)
            count = int(inserted.rsplit(" ", 1)[-1])
            await _handled(made)
            after = {name: memory(pid) for name, pid in made.pids().items()}
    return count, {name: Grown(idle[name], after[name]) for name in idle}


async def _sell(made: World) -> None:
    """A paid order and an enrollment for each student; their processes find nothing left to do."""
    async with made.db.transaction() as session:
        teacher = await session.get(Course, UUID(made.course_id))
        assert teacher is not None
        course = await add_course(session, teacher.owner_id, "Tides")
        offer = (await seats.lock_offers(session, [course.id]))[course.id]
    for student in made.students:
        async with made.db.transaction() as session:
            await add_order(session, student.user_id, course, granted=1, status="paid")
            await enrollments.grant(
                session, student.user_id, offer, clock.now(), source="admin", actor_id=student.user_id
            )


async def _handled(made: World) -> None:
    """Waits until everything is published and consumed, every mail is sent, and every process has begun."""

    async def nothing_waits() -> bool:
        async with made.db.read() as session:
            waits = await session.scalar(text(_WAITING))
            missing = 2 * len(made.students) - (await session.scalar(text("select count(*) from processes")) or 0)
            for subscription in SUBSCRIPTIONS.values():
                missing += await session.scalar(
                    text(_UNHANDLED),
                    {"consumer": subscription.name, "types": [event.type for event in subscription.events]},
                )
        return not waits and missing == 0

    await until(nothing_waits, timeout=3600, every=1)
