"""From the outbox to RabbitMQ: nothing lost, per-subject order kept, whatever dies in between."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import ColumnElement, func, select, text, update
from yarl import URL

from core import runtime
from core.db import Database
from core.ids import derived_id, new_id
from core.messaging import relay
from core.messaging.partitions import ASLEEP, MEMBER, OWNER
from core.messaging.relay import Relay
from core.messaging.store import OutboxStore, session
from core.settings import Settings
from deploy.local.stack import script
from domain.contracts.events import CourseUpdated, OrderPaid
from models.messaging import InboxEvent, OutboxEvent
from services.outbox import emit
from tests.support.isolation import as_environment
from tests.support.messaging import published, running, tapped
from tests.support.proxy import proxied
from tests.support.wait import until


async def _emit(db: Database, *courses: UUID) -> list[UUID]:
    async with db.transaction() as transaction:
        return [await emit(transaction, CourseUpdated(course_id=course)) for course in courses]


async def test_publishes_a_cloud_event(queues: Settings, db: Database) -> None:
    course = new_id()
    async with tapped(queues.rabbitmq) as tap, running(Relay(queues)):
        (event_id,) = await _emit(db, course)
        await until(published(db, event_id))
        events = [event for event in await tap.take() if event["id"] == str(event_id)]
    async with db.read() as transaction:
        created = (await transaction.scalars(select(OutboxEvent.created_at).where(OutboxEvent.id == event_id))).one()
    time = events[0].pop("time")
    assert events == [
        {
            "specversion": "1.0",
            "id": str(event_id),
            "source": "/lyceum",
            "type": "course.updated.v1",
            "subject": f"course/{course}",
            "datacontenttype": "application/json",
            "data": {"course_id": str(course)},
        }
    ]
    assert datetime.fromisoformat(time) == created
    message = next(message for message in tap.messages if message.message_id == str(event_id))
    assert message.content_type == "application/cloudevents+json"
    assert message.routing_key == "course.updated.v1"
    assert message.exchange == f"{queues.rabbitmq.prefix}.events"


async def test_a_rolled_back_event_is_never_published(queues: Settings, db: Database) -> None:
    lost = new_id()

    async def fail() -> None:
        async with db.transaction() as transaction:
            await emit(transaction, CourseUpdated(course_id=lost))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with tapped(queues.rabbitmq) as tap, running(Relay(queues)):
        await until(published(db, *await _emit(db, new_id())))
        assert f"course/{lost}" not in {event["subject"] for event in await tap.take()}


async def test_an_event_with_a_key_is_emitted_once(db: Database) -> None:
    order, key = new_id(), str(new_id())
    event = OrderPaid(order_id=order, student_id=new_id())
    async with db.transaction() as transaction:
        first = await emit(transaction, event, key=key)
    async with db.transaction() as transaction:
        second = await emit(transaction, event, key=key)
    async with db.read() as transaction:
        rows = select(func.count()).where(OutboxEvent.subject == f"order/{order}")
        assert (first, await transaction.scalar(rows)) == (derived_id("order.paid.v1", key), 1)
    assert second == first


def _held(db: Database, lock: int, *, count: int, by: int) -> Callable[[], Awaitable[bool]]:
    """A condition: so many of these locks are held, by so many sessions."""

    async def check() -> bool:
        held = (
            "select count(*), count(distinct pid) from pg_locks where locktype = 'advisory' and classid = $1"
            " and granted and database = (select oid from pg_database where datname = current_database())"
        )
        row = await db.fetch_row(held, lock)
        return row is not None and tuple(row) == (count, by)

    return check


async def test_a_sleeping_relay_is_woken_by_the_event(
    queues: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_REBALANCE", 3600.0)  # nothing else is going to wake it
    await until(_held(db, MEMBER, count=0, by=0))
    async with running(Relay(queues)):
        await until(published(db, *await _emit(db, new_id())))
        await until(_held(db, ASLEEP, count=8, by=1), timeout=90)
        await until(published(db, *await _emit(db, new_id())))


async def test_relays_share_the_partitions_and_inherit_them(queues: Settings, db: Database) -> None:
    async with session(queues.database, "a") as first, session(queues.database, "b") as second:
        one, two = OutboxStore(first), OutboxStore(second)
        await one.join()
        await one.rebalance()
        assert one.owned == frozenset(range(8))
        await two.join()
        await two.rebalance()
        assert two.owned == frozenset()
        await one.rebalance()
        await two.rebalance()
        assert (one.owned, two.owned) == (frozenset(range(4)), frozenset(range(4, 8)))
        await first.close()

        async def inherited() -> bool:
            await two.rebalance()
            return two.owned == frozenset(range(8))

        await until(inherited)


async def test_order_is_kept_while_relays_come_and_go(
    queues: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_REBALANCE", 0.1)
    courses = [new_id() for _ in range(6)]
    emitted: dict[UUID, list[UUID]] = {course: [] for course in courses}
    done = asyncio.Event()

    async def keep_emitting() -> None:
        while not await runtime.wait(done, 0.01):
            for course, event_id in zip(courses, await _emit(db, *courses), strict=True):
                emitted[course].append(event_id)

    async with tapped(queues.rabbitmq) as tap, running(Relay(queues)):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_emitting())
            for _ in range(3):
                await until(_held(db, OWNER, count=8, by=1))
                async with running(Relay(queues), Relay(queues)):
                    await until(_held(db, OWNER, count=8, by=3))
            done.set()
        for event_ids in emitted.values():
            await until(published(db, *event_ids))
        events = await tap.take()
    for course in courses:
        sent = [UUID(event["id"]) for event in events if event["subject"] == f"course/{course}"]
        assert list(dict.fromkeys(sent)) == emitted[course]


@pytest.mark.parametrize("trouble", ["cut", "freeze"])
async def test_survives_the_loss_of_rabbitmq(queues: Settings, db: Database, trouble: str) -> None:
    url = URL(queues.rabbitmq.url.get_secret_value())
    async with proxied(str(url.host), url.port or 5672) as proxy:
        through = type(queues.rabbitmq.url)(str(url.with_host("127.0.0.1").with_port(proxy.port)))
        behind = queues.model_copy(update={"rabbitmq": queues.rabbitmq.model_copy(update={"url": through})})
        lone = Relay(behind)
        async with tapped(queues.rabbitmq) as tap, running(lone):
            await until(published(db, *await _emit(db, new_id())))
            getattr(proxy, trouble)()
            (event_id,) = await _emit(db, new_id())
            if trouble == "freeze":
                await asyncio.wait_for(proxy.withheld.wait(), 30)
            else:

                async def noticed() -> bool:
                    try:
                        await lone.check()
                    except ConnectionError:
                        return True
                    return False

                await until(noticed)
            assert not await published(db, event_id)()
            proxy.restore()
            await until(published(db, event_id), timeout=30)
            assert str(event_id) in {event["id"] for event in await tap.take()}


async def test_survives_the_loss_of_postgresql(queues: Settings, db: Database) -> None:
    async with running(Relay(queues)):
        await until(published(db, *await _emit(db, new_id())))
        async with db.transaction() as transaction:
            killed = await transaction.execute(
                text(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where datname = current_database() and application_name = 'lyceum-relay'"
                )
            )
            assert [row[0] for row in killed] == [True]
        await until(published(db, *await _emit(db, new_id())))


def _days_ago(days: int) -> ColumnElement[datetime]:
    return func.now() - func.make_interval(0, 0, 0, days)


async def test_forgets_what_was_published_long_ago(queues: Settings, db: Database) -> None:
    old, recent, waiting = await _emit(db, new_id(), new_id(), new_id())
    async with db.transaction() as transaction:
        for event_id, age in ((old, 31), (recent, 29)):
            await transaction.execute(
                update(OutboxEvent).where(OutboxEvent.id == event_id).values(published_at=_days_ago(age))
            )
    async with session(queues.database, "test") as connection:
        await OutboxStore(connection).prune(30)
    async with db.read() as transaction:
        left = await transaction.scalars(select(OutboxEvent.id).where(OutboxEvent.id.in_([old, recent, waiting])))
        assert set(left) == {recent, waiting}


async def test_forgets_what_was_handled_long_ago_batch_by_batch(queues: Settings, db: Database) -> None:
    oldest, older, recent = new_id(), new_id(), new_id()
    async with db.transaction() as transaction:
        for event_id, age in ((older, 32), (oldest, 33), (recent, 30)):
            transaction.add(InboxEvent(consumer="test", event_id=event_id, handled_at=_days_ago(age)))
    left = []
    async with session(queues.database, "test") as connection:
        for _ in range(3):
            await OutboxStore(connection).prune(30, batch=1)
            async with db.read() as transaction:
                left.append(
                    set(await transaction.scalars(select(InboxEvent.event_id).where(InboxEvent.consumer == "test")))
                )
    assert left == [{older, recent}, {recent}, {recent}]


async def test_pruning_that_fails_stops_no_event(queues: Settings, db: Database) -> None:
    hurried = queues.model_copy(update={"database": queues.database.model_copy(update={"statement_timeout": 0.5})})
    async with db.transaction() as transaction:
        await transaction.execute(text("lock table inbox in share mode"))
        async with running(Relay(hurried)):
            await until(published(db, *await _emit(db, new_id())))


@pytest.mark.parametrize(("failpoint", "copies"), [("relay.before_publish", 1), ("relay.after_publish", 2)])
async def test_killed_relay_loses_nothing(
    queues: Settings, db: Database, tmp_path: Path, failpoint: str, copies: int
) -> None:
    async with running(Relay(queues)):  # nothing else may be waiting in the outbox
        await until(published(db, *await _emit(db, new_id())))
    (tmp_path / failpoint).touch()
    environment = os.environ | as_environment(queues.model_copy(update={"failpoints": str(tmp_path)}))
    async with tapped(queues.rabbitmq) as tap:
        (event_id,) = await _emit(db, new_id())
        process = await asyncio.create_subprocess_exec(
            script("lyceum"), "relay", env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
        assert not await published(db, event_id)()
        async with running(Relay(queues)):
            await until(published(db, event_id))
        ids = [event["id"] for event in await tap.take()]
    assert ids.count(str(event_id)) == copies


async def test_the_trace_travels_with_the_event(queues: Settings, db: Database) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    event_id = new_id()
    async with db.transaction() as transaction:
        transaction.add(
            OutboxEvent(
                id=event_id, type="course.updated.v1", subject="course/x", data={"course_id": "x"}, traceparent=parent
            )
        )
    async with tapped(queues.rabbitmq) as tap, running(Relay(queues)):
        await until(published(db, event_id))
        await tap.take()
    message = next(message for message in tap.messages if message.message_id == str(event_id))
    assert message.headers["traceparent"] == parent
    assert json.loads(message.body)["traceparent"] == parent
