"""All configuration, read once from the environment (`LYCEUM_<SECTION>__<FIELD>`).

The env file that `LYCEUM_ENV_FILE` names supplies what the environment does not; outside production the one written by
the embedded stack does so unnamed. Durations are seconds, sizes bytes, money minor units, unless a name says otherwise.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from core import paths


def _listed(text: str) -> tuple[str, ...]:
    """The items of a comma separated list."""
    return tuple(item.strip() for item in text.split(",") if item.strip())


class DatabaseSettings(BaseModel):
    """PostgreSQL. `url` is the least-privilege application role; `owner_url` owns the schema and runs migrations.

    Connections beyond `pool_size` are opened for one use and closed again, which costs more than most uses.
    """

    url: SecretStr = SecretStr("")
    owner_url: SecretStr = SecretStr("")
    pool_size: int = 24
    max_overflow: int = 0
    statement_timeout: float = 15.0
    connect_timeout: float = 5.0


class RedisSettings(BaseModel):
    """Valkey or Redis: caches and rate limits. Nothing durable lives here. Keys start with `{prefix}:`."""

    url: SecretStr = SecretStr("")
    prefix: str = "lyceum"
    timeout: float = 1.0


class RabbitMQSettings(BaseModel):
    url: SecretStr = SecretStr("")
    prefix: str = "lyceum"
    """The exchange is `{prefix}.events`, a queue `{prefix}.<consumer>`."""
    delivery_limit: int = 20
    prefetch: int = 50


class TemporalSettings(BaseModel):
    """`codec_keys` is a keyring `id:base64,…`; the first key encrypts, all decrypt.

    Connections are in clear unless `tls`, an `api_key` or a PEM file is set: `tls_ca` instead of the system's
    authorities, `tls_cert` with `tls_key` for mutual TLS. `tls_domain` is the server's name where the address is not.
    """

    address: str = ""
    namespace: str = "default"
    task_queue_prefix: str = "lyceum"
    ui_url: str = ""
    codec_keys: SecretStr = SecretStr("")
    api_key: SecretStr = SecretStr("")
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_domain: str = ""
    rpc_timeout: float = 8.0
    graceful_shutdown: float = 30.0
    max_concurrent_activities: int = 24
    max_cached_workflows: int = 1000
    stuck_after: float = 300.0


class S3Settings(BaseModel):
    """`public_endpoint_url` is what browsers reach (signed links are made for it); default: `endpoint_url`."""

    endpoint_url: str = ""
    public_endpoint_url: str = ""
    region: str = "us-east-1"
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")
    bucket: str = "lyceum-media"
    link_ttl: int = 300
    upload_ttl: int = 3600


class OpenSearchSettings(BaseModel):
    url: SecretStr = SecretStr("")
    index_prefix: str = "lyceum"
    timeout: float = 5.0


class StripeSettings(BaseModel):
    """`api_base` empty means the real Stripe. `webhook_secrets` is comma separated (two during a rotation)."""

    secret_key: SecretStr = SecretStr("")
    api_base: str = ""
    webhook_secrets: SecretStr = SecretStr("")
    timeout: float = 20.0

    @property
    def livemode(self) -> bool:
        """Whether the key, a restricted one too, moves real money: only such charges are this configuration's."""
        return self.secret_key.get_secret_value().startswith(("sk_live_", "rk_live_"))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What webhooks may be signed with."""
        return _listed(self.webhook_secrets.get_secret_value())


class SMTPSettings(BaseModel):
    """`url` is `smtp://[user:password@]host:port` or `smtps://…`."""

    url: SecretStr = SecretStr("")
    sender: str = "Lyceum <no-reply@lyceum.example>"


class AuthSettings(BaseModel):
    """`signing_keys` are PEM private keys (P-256), newest first; `argon2_memory` is KiB."""

    signing_keys: SecretStr = SecretStr("")
    issuer: str = "lyceum"
    audience: str = "lyceum-api"
    access_ttl: int = 600
    refresh_ttl: int = 30 * 86400
    verification_ttl: int = 2 * 86400
    argon2_memory: int = 19456
    argon2_time: int = 2
    argon2_concurrency: int = 4
    login_attempts: int = 10
    login_window: int = 300


class APISettings(BaseModel):
    """`cors_origins` is comma separated."""

    host: str = "127.0.0.1"
    port: int = 8000
    public_url: str = "http://127.0.0.1:8000"
    cors_origins: str = ""
    docs: bool = True
    max_body: int = 1_048_576
    max_header: int = 16_384
    request_timeout: float = 30.0

    @property
    def origins(self) -> tuple[str, ...]:
        """Whose pages may call the API and upload."""
        return _listed(self.cors_origins)


class PlatformSettings(BaseModel):
    """Business policy. `platform_bps` is the platform's share of a line in basis points (3000 = 30 %)."""

    platform_bps: int = Field(default=3000, ge=0, le=10_000)
    checkout_ttl: int = Field(default=1800, ge=1800, le=82_800)
    hold_days: int = Field(default=30, ge=0)
    """How long after payment a creator's earnings stay back; never shorter than the refund window."""
    teacher_review: bool = False
    outbox_retention_days: int = 30
    max_upload: int = 5 * 1024**3


class TelemetrySettings(BaseModel):
    """`otlp_endpoint` empty switches export off; `metrics_port` 0 serves no metrics page of its own."""

    log_level: str = "INFO"
    log_format: Literal["json", "console"] = "json"
    otlp_endpoint: str = ""
    metrics_port: int = 0
    metrics_host: str = "127.0.0.1"


class CodecServerSettings(BaseModel):
    """The page the Temporal UI asks to decrypt payloads. `token` is what an operator signs in with.

    `local` decrypts without signing in, for whoever uses the UI on this machine: its development server cannot send
    the sign-in along. Refused in production and beyond loopback.
    """

    host: str = "127.0.0.1"
    port: int = 8234
    token: SecretStr = SecretStr("")
    local: bool = False
    ui_origin: str = ""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="LYCEUM_", env_nested_delimiter="__", extra="ignore", env_file_encoding="utf-8"
    )

    environment: Literal["production", "development", "test"] = "development"
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    rabbitmq: RabbitMQSettings = RabbitMQSettings()
    temporal: TemporalSettings = TemporalSettings()
    s3: S3Settings = S3Settings()
    opensearch: OpenSearchSettings = OpenSearchSettings()
    stripe: StripeSettings = StripeSettings()
    smtp: SMTPSettings = SMTPSettings()
    auth: AuthSettings = AuthSettings()
    api: APISettings = APISettings()
    platform: PlatformSettings = PlatformSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    codec_server: CodecServerSettings = CodecServerSettings()
    failpoints: str = ""
    """A directory; tests arm failpoints by creating files in it. Refused in production."""


def env_file() -> Path | None:
    """The file to read: a developer's own stack never supplies secrets or addresses to production."""
    if named := os.environ.get("LYCEUM_ENV_FILE"):
        return Path(named)
    return None if os.environ.get("LYCEUM_ENVIRONMENT") == "production" else paths.home() / "env"


@lru_cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    settings = Settings(_env_file=env_file())
    if settings.environment == "production" and settings.failpoints:
        raise ValueError("LYCEUM_FAILPOINTS must not be set in production")
    return settings
