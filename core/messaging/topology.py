"""Who listens to which events, and the exchanges and queues that make it so.

One topic exchange `{prefix}.events` carries every event under its type. Each consumer has a durable quorum queue
`{prefix}.<consumer>`; what it gives up on goes to `{prefix}.<consumer>.dead`. Declaring is idempotent; the relay and
every consumer do it when they connect, so that no event is published before the queues that want it exist.

RabbitMQ refuses to declare a queue that exists with other arguments: after a change of `rabbitmq.delivery_limit` the
consumers' queues have to be deleted (when they are empty) before the processes start.
"""

from dataclasses import dataclass

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

from core.settings import RabbitMQSettings
from domain.contracts import events

PATIENCE = 30 * 86_400_000
"""Milliseconds a consumer may hold a delivery: events wait out an outage there. RabbitMQ's own 30 minutes would take
them back again and again, and each time counts towards `rabbitmq.delivery_limit`.

Consumers ask for it, which RabbitMQ heeds since 4.3; the brokers we start are configured with it (`consumer_timeout`).
"""


@dataclass(frozen=True, slots=True)
class Subscription:
    """`module` has the `consumer()` that handles these events (see `core.messaging.consumer`)."""

    name: str
    module: str
    events: tuple[type[events.Event], ...]


SUBSCRIPTIONS: dict[str, Subscription] = {
    subscription.name: subscription
    for subscription in (
        Subscription(
            "search",
            "search.indexer",
            (events.CoursePublished, events.CourseUpdated, events.CourseUnpublished),
        ),
        Subscription(
            "notifications",
            "services.notifications",
            (
                events.UserRegistered,
                events.VerificationRequested,
                events.TeacherGranted,
                events.TeacherRejected,
                events.CoursePublished,
                events.OrderPaid,
                events.OrderExpired,
                events.OrderCanceled,
                events.PaymentUnapplied,
                events.PaymentReturned,
                events.EnrollmentGranted,
                events.EnrollmentRevoked,
            ),
        ),
        Subscription(
            "processes",
            "workflows.starter",
            (
                events.OrderPlaced,
                events.PaymentUnapplied,
                events.EnrollmentGranted,
                events.EnrollmentWithdrawn,
                events.EnrollmentRevoked,
            ),
        ),
    )
}


def exchange_name(settings: RabbitMQSettings) -> str:
    return f"{settings.prefix}.events"


def queue_name(settings: RabbitMQSettings, consumer: str) -> str:
    return f"{settings.prefix}.{consumer}"


def dead_queue_name(settings: RabbitMQSettings, consumer: str) -> str:
    return f"{settings.prefix}.{consumer}.dead"


async def declare_exchange(channel: AbstractChannel, settings: RabbitMQSettings) -> AbstractExchange:
    return await channel.declare_exchange(exchange_name(settings), ExchangeType.TOPIC, durable=True)


async def declare(channel: AbstractChannel, settings: RabbitMQSettings, subscription: Subscription) -> AbstractQueue:
    """The consumer's queue with its bindings, and where its dead letters go."""
    exchange = await declare_exchange(channel, settings)
    dead = await channel.declare_exchange(f"{settings.prefix}.dead", ExchangeType.DIRECT, durable=True)
    letters = await channel.declare_queue(
        dead_queue_name(settings, subscription.name), durable=True, arguments={"x-queue-type": "quorum"}
    )
    name = queue_name(settings, subscription.name)
    await letters.bind(dead, routing_key=name)
    queue = await channel.declare_queue(
        name,
        durable=True,
        arguments={
            "x-queue-type": "quorum",
            # One process at a time gets messages, in order; the others stand by.
            "x-single-active-consumer": True,
            "x-delivery-limit": settings.delivery_limit,
            "x-dead-letter-exchange": dead.name,
            "x-dead-letter-routing-key": name,
        },
    )
    for event in subscription.events:
        await queue.bind(exchange, routing_key=event.type)
    return queue


async def declare_all(channel: AbstractChannel, settings: RabbitMQSettings) -> AbstractExchange:
    """Everything; returns the exchange that events are published to."""
    for subscription in SUBSCRIPTIONS.values():
        await declare(channel, settings, subscription)
    return await declare_exchange(channel, settings)
