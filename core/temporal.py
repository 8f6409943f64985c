"""The Temporal client: one connection per process, pydantic conversion, encrypted payloads and failures."""

from dataclasses import replace

from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes

from core.codec import KeyringCodec
from core.settings import Settings


def data_converter(settings: Settings) -> DataConverter:
    """The same in clients, workers, replayers and tests. Without keys (never in production) payloads stay readable."""
    keys = settings.temporal.codec_keys.get_secret_value()
    if not keys:
        if settings.environment == "production":
            raise ValueError("LYCEUM_TEMPORAL__CODEC_KEYS is required in production")
        return pydantic_data_converter
    return replace(
        pydantic_data_converter,
        payload_codec=KeyringCodec.parse(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """Connects; with `lazy` at the first call, so that a process can start while Temporal is down."""
    return await Client.connect(
        settings.temporal.address,
        namespace=settings.temporal.namespace,
        data_converter=data_converter(settings),
        interceptors=[TracingInterceptor()] if settings.telemetry.otlp_endpoint else [],
        lazy=lazy,
    )


def task_queue(settings: Settings, name: str) -> str:
    """`lyceum-core`, `lyceum-stripe`, `lyceum-bulk`: queues follow the resource an activity uses."""
    return f"{settings.temporal.task_queue_prefix}-{name}"
