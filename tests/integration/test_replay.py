"""Publishing the past once more."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from core.db import Database
from core.ids import new_id
from core.messaging import topology
from core.messaging.consumer import External
from core.messaging.envelope import Envelope
from core.messaging.loop import ConsumerLoop
from core.messaging.relay import Relay
from core.messaging.replay import Range, replay, run
from core.settings import Settings
from domain.contracts.events import CourseUnpublished, CourseUpdated, OrderPaid
from models.messaging import OutboxEvent
from services.outbox import emit
from tests.support.messaging import published, running, tapped
from tests.support.wait import until


async def _history(settings: Settings, db: Database) -> list[OutboxEvent]:
    """Four published events: two of a course, one of an order, one more of the course."""
    course, order = new_id(), new_id()
    async with db.transaction() as session:
        ids = [
            await emit(session, CourseUpdated(course_id=course)),
            await emit(session, CourseUpdated(course_id=course)),
            await emit(session, OrderPaid(order_id=order, student_id=order)),
            await emit(session, CourseUnpublished(course_id=course)),
        ]
    async with running(Relay(settings)):
        await until(published(db, *ids))
    async with db.read() as session:
        return list(await session.scalars(select(OutboxEvent).where(OutboxEvent.id.in_(ids)).order_by(OutboxEvent.seq)))


async def test_a_range_comes_again_in_its_order(queues: Settings, db: Database) -> None:
    rows = await _history(queues, db)
    wanted = Range(from_seq=rows[1].seq, to_seq=rows[3].seq)
    async with tapped(queues.rabbitmq) as tap:
        assert await replay(queues, wanted) == 3
        assert [event["id"] for event in await tap.take()] == [str(row.id) for row in rows[1:]]


async def test_only_one_type_and_only_some_time(queues: Settings, db: Database) -> None:
    rows = await _history(queues, db)
    at = rows[0].created_at
    async with tapped(queues.rabbitmq) as tap:
        of_type = Range(from_seq=rows[0].seq, type="order.paid.v1")
        assert await replay(queues, of_type) == 1
        assert await replay(queues, Range(since=at, until=at)) == 4
        assert await replay(queues, Range(from_seq=rows[0].seq, until=at - timedelta(seconds=1))) == 0
        assert [event["id"] for event in await tap.take()] == [str(row.id) for row in (rows[2], *rows)]


async def test_what_was_handled_is_skipped_unless_forced(queues: Settings, db: Database) -> None:
    handled: list[UUID] = []

    async def note(envelope: Envelope) -> None:
        handled.append(envelope.id)

    consumer = ConsumerLoop(topology.SUBSCRIPTIONS["search"], External(note), db, queues.rabbitmq)
    rows = await _history(queues, db)
    courses = [row.id for row in rows if row.type.startswith("course.")]
    wanted = Range(from_seq=rows[0].seq, to_seq=rows[3].seq)
    async with running(consumer):

        async def count(number: int) -> bool:
            return len(handled) == number

        await until(lambda: count(3))
        assert await replay(queues, wanted) == 4
        assert await replay(queues, wanted, consumer="search", force=True) == 3
        await until(lambda: count(6))
        assert await replay(queues, wanted, force=True) == 4
        await until(lambda: count(9))
    assert handled == courses * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"from_seq": 1, "type": "order.eaten.v1"}, "There is no event 'order.eaten.v1'"),
        ({"from_seq": 1, "consumer": "nobody"}, "There is no consumer 'nobody'"),
        ({}, "Say where to begin"),
    ],
)
def test_says_what_is_wrong_with_the_command(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        run(**arguments)  # type: ignore[arg-type]
