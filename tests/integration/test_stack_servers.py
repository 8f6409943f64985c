"""The servers tests run on are the real ones, and each session has a corner of its own."""

import boto3
import httpx2
from sqlalchemy import text

from core.db import Database
from core.settings import Settings
from tests.support.stack import Servers


async def test_the_database_is_migrated_and_the_application_role_owns_nothing(db: Database, settings: Settings) -> None:
    async with db.read() as session:
        role = (await session.execute(text("select current_user"))).scalar_one()
        version = (await session.execute(text("show server_version_num"))).scalar_one()
        migrated = (await session.execute(text("select to_regclass('public.alembic_version')"))).scalar_one()
        owned = (
            await session.execute(text("select count(*) from pg_tables where tableowner = current_user"))
        ).scalar_one()
    assert (role, int(version) // 10_000, migrated, owned) == ("lyceum", 18, "alembic_version", 0)


def test_opensearch_answers(servers: Servers) -> None:
    port = servers.port("opensearch")
    assert httpx2.get(f"http://127.0.0.1:{port}/_cluster/health").json()["status"] in ("green", "yellow")


def test_s3_checks_signatures(settings: Settings) -> None:
    def client(secret: str) -> object:
        return boto3.client(
            "s3",
            endpoint_url=settings.s3.endpoint_url,
            region_name=settings.s3.region,
            aws_access_key_id=settings.s3.access_key.get_secret_value(),
            aws_secret_access_key=secret,
        )

    good = client(settings.s3.secret_key.get_secret_value())
    assert "Buckets" in good.list_buckets()  # type: ignore[attr-defined]
