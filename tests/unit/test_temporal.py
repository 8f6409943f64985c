"""How processes connect to Temporal."""

from pathlib import Path
from typing import Any

import pytest
from temporalio.service import TLSConfig

from core.settings import Settings, TemporalSettings
from core.temporal import connect, tls


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"tls": True}, TLSConfig()),
        ({"api_key": "k"}, TLSConfig()),
        ({"tls_domain": "t.example"}, TLSConfig(domain="t.example")),
    ],
)
def test_connections_are_in_clear_only_where_nothing_asks_for_tls(given: Any, expected: TLSConfig | bool) -> None:
    assert tls(TemporalSettings(**given)) == expected


async def test_the_connection_gets_key_authority_and_certificate(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("tls_ca", "tls_cert", "tls_key")}
    for name, path in files.items():
        path.write_text(f"{name} in PEM")
    given: Any = {"address": "127.0.0.1:1", "api_key": "k", **{name: str(path) for name, path in files.items()}}

    client = await connect(Settings(temporal=TemporalSettings(**given)), lazy=True)

    assert client.service_client.config.api_key == "k"
    assert client.service_client.config.tls == TLSConfig(
        server_root_ca_cert=b"tls_ca in PEM", client_cert=b"tls_cert in PEM", client_private_key=b"tls_key in PEM"
    )


async def test_a_connection_in_clear_carries_no_key() -> None:
    client = await connect(Settings(temporal=TemporalSettings(address="127.0.0.1:1")), lazy=True)

    assert (client.service_client.config.api_key, client.service_client.config.tls) == (None, False)
