"""From RabbitMQ to a handler: each event has its effect once, in its subject's order, or is a visible dead letter."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage, HeadersType
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from yarl import URL

from core.db import Database
from core.ids import new_id
from core.messaging import loop, topology
from core.messaging.consumer import External, Handler, Poison, Transactional
from core.messaging.envelope import Envelope, encode
from core.messaging.loop import ConsumerLoop
from core.settings import Settings
from domain.contracts.events import CourseUpdated, OrderPaid
from models.messaging import InboxEvent
from tests.support.messaging import channel_of, running
from tests.support.proxy import proxied
from tests.support.wait import until

SEARCH = topology.SUBSCRIPTIONS["search"]


def _consumer(settings: Settings, db: Database, handler: Handler) -> ConsumerLoop:
    return ConsumerLoop(SEARCH, handler, db, settings.rabbitmq)


async def _publish(settings: Settings, *bodies: bytes, headers: HeadersType | None = None) -> None:
    async with channel_of(settings.rabbitmq) as channel:
        exchange = await topology.declare_exchange(channel, settings.rabbitmq)
        for body in bodies:
            await exchange.publish(
                Message(body, headers=headers or {}), routing_key=CourseUpdated.type, mandatory=False
            )


def _body(course: UUID, event_id: UUID | None = None) -> bytes:
    data = CourseUpdated(course_id=course).model_dump_json()
    return encode(event_id or new_id(), CourseUpdated.type, f"course/{course}", datetime.now(UTC), data, None)


async def _depth(settings: Settings, queue: Callable[..., str]) -> int:
    async with channel_of(settings.rabbitmq) as channel:
        declared = await channel.get_queue(queue(settings.rabbitmq, "search"))
        return declared.declaration_result.message_count or 0


def _dead(settings: Settings, count: int) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await _depth(settings, topology.dead_queue_name) == count

    return check


class Recorder:
    """Notes what it handled. `failures` says how often to raise what for a course first, `behind` of which other course
    something must have been handled before."""

    def __init__(self) -> None:
        self.handled: list[tuple[UUID, UUID]] = []
        self.failures: dict[UUID, list[Exception]] = defaultdict(list)
        self.behind: dict[UUID, UUID] = {}

    async def external(self, envelope: Envelope) -> None:
        assert isinstance(envelope.event, CourseUpdated)
        course = envelope.event.course_id
        if self.failures[course]:
            raise self.failures[course].pop(0)
        if course in self.behind and not self.of(self.behind[course]):
            raise ConnectionError
        self.handled.append((course, envelope.id))

    async def rows(self, session: AsyncSession, envelope: Envelope) -> None:
        await self.external(envelope)

    def count(self, number: int) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return len(self.handled) >= number

        return check

    def of(self, course: UUID) -> list[UUID]:
        return [event_id for handled, event_id in self.handled if handled == course]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(params=["transactional", "external"])
def handler(request: pytest.FixtureRequest, recorder: Recorder) -> Handler:
    return Transactional(recorder.rows) if request.param == "transactional" else External(recorder.external)


async def test_an_event_delivered_twice_is_handled_once(
    queues: Settings, db: Database, recorder: Recorder, handler: Handler
) -> None:
    course, event_id, last = new_id(), new_id(), new_id()
    async with running(_consumer(queues, db, handler)):
        await _publish(queues, _body(course, event_id), _body(course, event_id), _body(last))
        await until(recorder.count(2))
        await _publish(queues, _body(course, event_id), _body(course))
        await until(recorder.count(3))
    assert recorder.of(course)[0] == event_id
    assert len(recorder.of(course)) == 2
    async with db.read() as session:
        noted = select(func.count()).where(InboxEvent.consumer == "search", InboxEvent.event_id == event_id)
        assert await session.scalar(noted) == 1
    assert await _depth(queues, topology.queue_name) == 0


async def test_a_forced_event_is_handled_again(
    queues: Settings, db: Database, recorder: Recorder, handler: Handler
) -> None:
    course, event_id = new_id(), new_id()
    async with running(_consumer(queues, db, handler)):
        await _publish(queues, _body(course, event_id))
        await until(recorder.count(1))
        await _publish(queues, _body(course, event_id), headers={loop.FORCE: "notifications"})
        await _publish(queues, _body(course, event_id), headers={loop.FORCE: "search"})
        await until(recorder.count(2))
    assert recorder.of(course) == [event_id, event_id]


async def test_a_subject_waits_for_its_failing_event_and_others_do_not(
    queues: Settings, db: Database, recorder: Recorder, handler: Handler
) -> None:
    failing, fine = new_id(), new_id()
    first, second, other = new_id(), new_id(), new_id()
    recorder.failures[failing] = [ConnectionError(), TimeoutError()]
    recorder.behind[failing] = fine
    async with running(_consumer(queues, db, handler)):
        await _publish(queues, _body(failing, first), _body(failing, second), _body(fine, other))
        await until(recorder.count(3))
    assert recorder.handled == [(fine, other), (failing, first), (failing, second)]


async def test_poison_goes_to_the_dead_letters_at_once(
    queues: Settings, db: Database, recorder: Recorder, handler: Handler
) -> None:
    poisoned, next_one = new_id(), new_id()
    recorder.failures[poisoned] = [Poison("never")]
    async with running(_consumer(queues, db, handler)):
        await _publish(queues, _body(poisoned), _body(poisoned, next_one))
        await until(recorder.count(1))
        await until(_dead(queues, 1))
    assert recorder.handled == [(poisoned, next_one)]


async def test_a_bug_is_tried_five_times(
    queues: Settings, db: Database, recorder: Recorder, handler: Handler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_FIRST_DELAY", 0.001)
    healing, broken = new_id(), new_id()
    recorder.failures[healing] = [KeyError()] * 4
    recorder.failures[broken] = [KeyError()] * 5
    async with running(_consumer(queues, db, handler)):
        await _publish(queues, _body(healing), _body(broken))
        await until(_dead(queues, 1))
        await until(recorder.count(1))
    assert [course for course, _ in recorder.handled] == [healing]


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"{}",
        encode(UUID(int=1), "no.such_event.v1", "course/x", datetime(2026, 1, 1, tzinfo=UTC), "{}", None),
        encode(UUID(int=1), "course.updated.v1", "course/x", datetime(2026, 1, 1, tzinfo=UTC), '{"course_id":1}', None),
        _body(UUID(int=1)).replace(b'"1.0"', b'"0.3"'),
    ],
)
async def test_what_is_no_event_is_a_dead_letter(
    queues: Settings, db: Database, recorder: Recorder, body: bytes
) -> None:
    async with running(_consumer(queues, db, External(recorder.external))):
        await _publish(queues, body, _body(new_id()))
        await until(recorder.count(1))
        await until(_dead(queues, 1))


async def test_an_event_it_does_not_subscribe_to_is_dropped(queues: Settings, db: Database, recorder: Recorder) -> None:
    order = new_id()
    data = OrderPaid(order_id=order, student_id=order).model_dump_json()
    stray = encode(new_id(), OrderPaid.type, f"order/{order}", datetime.now(UTC), data, None)
    async with running(_consumer(queues, db, External(recorder.external))):
        await _publish(queues, stray, _body(new_id()))
        await until(recorder.count(1))
    assert await _depth(queues, topology.queue_name) == 0
    assert await _depth(queues, topology.dead_queue_name) == 0


async def test_a_failed_transaction_leaves_no_trace_in_the_inbox(
    queues: Settings, db: Database, recorder: Recorder
) -> None:
    course, event_id = new_id(), new_id()
    recorder.failures[course] = [Poison("never")]
    async with running(_consumer(queues, db, Transactional(recorder.rows))):
        await _publish(queues, _body(course, event_id))
        await until(_dead(queues, 1))
    async with db.read() as session:
        assert await session.get(InboxEvent, ("search", event_id)) is None


async def test_one_process_works_and_the_other_takes_over(queues: Settings, db: Database) -> None:
    one, two = Recorder(), Recorder()
    course = new_id()
    async with running(_consumer(queues, db, External(one.external))) as stop:
        await _publish(queues, _body(course))
        await until(one.count(1))
        async with running(_consumer(queues, db, External(two.external))):
            await _publish(queues, *(_body(course) for _ in range(5)))
            await until(one.count(6))
            stop.set()
            await _publish(queues, *(_body(course) for _ in range(3)))

            async def all_handled() -> bool:
                return len(one.handled) + len(two.handled) == 9

            await until(all_handled)
            await _publish(queues, _body(course))
            await until(two.count(1))


async def test_stopping_lets_the_handler_finish_and_the_next_process_goes_on_in_order(
    queues: Settings, db: Database
) -> None:
    course, begun, release = new_id(), asyncio.Event(), asyncio.Event()
    handled: list[UUID] = []

    async def slow(envelope: Envelope) -> None:
        begun.set()
        await release.wait()
        handled.append(envelope.id)

    successor = Recorder()
    ids = [new_id() for _ in range(4)]
    async with running(_consumer(queues, db, External(slow))) as stop:
        await _publish(queues, *(_body(course, event_id) for event_id in ids))
        await begun.wait()
        async with running(_consumer(queues, db, External(successor.external))):
            stop.set()
            release.set()
            await until(successor.count(3))
    assert handled == ids[:1]
    assert successor.of(course) == ids[1:]


async def test_a_message_that_keeps_killing_its_consumer_ends_as_a_dead_letter(queues: Settings) -> None:
    limited = queues.model_copy(update={"rabbitmq": queues.rabbitmq.model_copy(update={"delivery_limit": 2})})
    subscription = topology.Subscription(f"fragile-{new_id().hex}", "", (CourseUpdated,))
    async with channel_of(limited.rabbitmq) as channel:
        queue = await topology.declare(channel, limited.rabbitmq, subscription)
        await _publish(limited, _body(new_id()))
        deliveries: list[AbstractIncomingMessage] = []

        async def give_back(message: AbstractIncomingMessage) -> None:
            deliveries.append(message)
            await message.reject(requeue=True)

        async def buried() -> bool:
            dead = await channel.get_queue(topology.dead_queue_name(limited.rabbitmq, subscription.name))
            return dead.declaration_result.message_count == 1

        await queue.consume(give_back)
        await until(buried)
        for name in (topology.queue_name, topology.dead_queue_name):
            await channel.queue_delete(name(limited.rabbitmq, subscription.name))
    assert len(deliveries) == 3


async def test_a_lost_broker_means_no_lost_and_no_doubled_event(queues: Settings, db: Database) -> None:
    url = URL(queues.rabbitmq.url.get_secret_value())
    begun, release = asyncio.Event(), asyncio.Event()
    handled: list[UUID] = []

    async def slow(session: AsyncSession, envelope: Envelope) -> None:
        begun.set()
        await release.wait()
        handled.append(envelope.id)

    ids = [new_id() for _ in range(5)]
    async with proxied(str(url.host), url.port or 5672) as proxy:
        through = SecretStr(str(url.with_host("127.0.0.1").with_port(proxy.port)))
        behind = queues.model_copy(update={"rabbitmq": queues.rabbitmq.model_copy(update={"url": through})})
        consumer = _consumer(behind, db, Transactional(slow))
        async with running(consumer):
            await _publish(queues, *(_body(new_id(), event_id) for event_id in ids))
            await begun.wait()
            proxy.cut()
            release.set()
            proxy.restore()

            async def empty() -> bool:
                return len(handled) == len(ids) and await _depth(queues, topology.queue_name) == 0

            await until(empty)
            await until(_ready(consumer))
    assert sorted(handled) == sorted(ids)


def _ready(consumer: ConsumerLoop) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        try:
            await consumer.check()
        except ConnectionError:
            return False
        return True

    return check
