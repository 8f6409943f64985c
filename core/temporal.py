"""The Temporal client: one connection per process, pydantic conversion, encrypted payloads and failures."""

from dataclasses import replace
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.service import TLSConfig

from core.codec import KeyringCodec
from core.settings import Settings, TemporalSettings


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


def tls(settings: TemporalSettings) -> TLSConfig | bool:
    """How to speak to the server: False means in clear, which nothing that asks for TLS may fall back to."""
    ca, certificate, key = (
        Path(name).read_bytes() if name else None for name in (settings.tls_ca, settings.tls_cert, settings.tls_key)
    )
    asked = TLSConfig(
        server_root_ca_cert=ca,
        domain=settings.tls_domain or None,
        client_cert=certificate,
        client_private_key=key,
    )
    return asked if settings.tls or settings.api_key or asked != TLSConfig() else False


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """Connects; with `lazy` at the first call, so that a process can start while Temporal is down."""
    return await Client.connect(
        settings.temporal.address,
        namespace=settings.temporal.namespace,
        api_key=settings.temporal.api_key.get_secret_value() or None,
        tls=tls(settings.temporal),
        data_converter=data_converter(settings),
        interceptors=[TracingInterceptor()] if settings.telemetry.otlp_endpoint else [],
        lazy=lazy,
    )


def task_queue(settings: Settings, name: str) -> str:
    """`lyceum-core`, `lyceum-stripe`, `lyceum-bulk`: queues follow the resource an activity uses."""
    return f"{settings.temporal.task_queue_prefix}-{name}"
