"""The env file: secrets that stay, addresses that follow, and only what is not run elsewhere."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.messaging.topology import PATIENCE
from core.paths import PROJECT
from core.settings import Settings
from deploy.local import ports, rabbitmq
from deploy.local.stack import Stack


def test_settings_read_back_what_was_written(tmp_path: Path) -> None:
    stack = Stack.open(tmp_path, {"LYCEUM_PORTS__POSTGRES": "5555", "LYCEUM_PORTS__API": "8888"})
    stack.create()
    settings = Settings(_env_file=stack.env_file)
    password = stack.secrets["LYCEUM_STACK_APP_PASSWORD"]
    assert settings.database.url == SecretStr(f"postgresql+asyncpg://lyceum:{password}@127.0.0.1:5555/lyceum")
    assert (settings.api.port, settings.api.public_url) == (8888, "http://127.0.0.1:8888")
    assert settings.auth.signing_keys.get_secret_value().startswith("-----BEGIN PRIVATE KEY-----\nMI")
    assert settings.auth.signing_keys.get_secret_value() == stack.secrets["LYCEUM_AUTH__SIGNING_KEYS"]


def test_the_env_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    stack = Stack.open(tmp_path, {})
    stack.create()
    assert stat.S_IMODE(stack.env_file.stat().st_mode) == 0o600


def test_secrets_survive_and_ports_do_not(tmp_path: Path) -> None:
    first = Stack.open(tmp_path, {"LYCEUM_PORTS__API": "8888"})
    first.create()
    second = Stack.open(tmp_path, {})
    assert second.secrets == first.secrets
    assert second.ports["api"] == 8000


def test_a_server_run_elsewhere_is_left_out(tmp_path: Path) -> None:
    elsewhere = {
        "LYCEUM_REDIS__URL": "redis://elsewhere",
        "LYCEUM_STRIPE__SECRET_KEY": "sk_test_mine",
        "LYCEUM_DATABASE__URL": "postgresql+asyncpg://elsewhere/lyceum",
    }
    addresses = Stack.open(tmp_path, elsewhere).addresses()
    assert sorted(set(Stack.open(tmp_path, {}).addresses()) - set(addresses)) == [
        "LYCEUM_DATABASE__OWNER_URL",
        "LYCEUM_DATABASE__URL",
        "LYCEUM_REDIS__URL",
        "LYCEUM_STRIPE__API_BASE",
    ]


def test_brokers_leave_events_to_consumers_through_a_long_outage(tmp_path: Path) -> None:
    stack = Stack.open(tmp_path, {})
    rabbitmq.configure(stack)
    for configuration in (tmp_path / "data/rabbitmq/rabbitmq.conf", PROJECT / "deploy/docker/rabbitmq.conf"):
        assert f"consumer_timeout = {PATIENCE}" in configuration.read_text().splitlines()


def test_no_outgoing_connection_takes_a_port_by_chance() -> None:
    assert max(ports.DEFAULTS.values()) < ports.OUTGOING


def test_every_port_can_be_moved(tmp_path: Path) -> None:
    moved = {ports.setting(name): str(9000 + number) for number, name in enumerate(ports.DEFAULTS)}
    assert list(ports.configured(moved).values()) == list(range(9000, 9000 + len(ports.DEFAULTS)))


@pytest.mark.parametrize("value", ["0", "70000", "http", "-1"])
def test_a_value_that_is_no_port_is_refused(value: str) -> None:
    with pytest.raises(ports.BadPort, match="LYCEUM_PORTS__API='" + value):
        ports.configured({"LYCEUM_PORTS__API": value})


def test_two_services_on_one_port_are_refused() -> None:
    with pytest.raises(ports.PortTaken, match="port 29999 is given to both api and mail; change LYCEUM_PORTS__MAIL"):
        ports.check({"api": 29_999, "mail": 29_999}, ["api", "mail"])
