"""What settings derive from each other."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from core.paths import PROJECT
from core.settings import APISettings, StripeSettings, env_file
from deploy.local.stack import Stack


@pytest.mark.parametrize(
    ("key", "live"),
    [("sk_live_1", True), ("rk_live_1", True), ("sk_test_1", False), ("rk_test_1", False), ("", False)],
)
def test_the_stripe_key_says_whether_payments_are_live(key: str, live: bool) -> None:
    assert StripeSettings(secret_key=SecretStr(key)).livemode is live


def test_lists_are_read_with_spaces_and_empty_items() -> None:
    assert APISettings(cors_origins=" https://a.example ,, https://b.example").origins == (
        "https://a.example",
        "https://b.example",
    )
    assert StripeSettings(webhook_secrets=SecretStr("whsec_new, whsec_old,")).secrets == ("whsec_new", "whsec_old")
    assert StripeSettings().secrets == ()


@pytest.mark.parametrize(
    ("environment", "file"),
    [
        ({}, PROJECT / ".lyceum/env"),
        ({"LYCEUM_HOME": "/x"}, Path("/x/env")),
        ({"LYCEUM_HOME": "/x", "LYCEUM_ENV_FILE": "/y/named"}, Path("/y/named")),
        ({"LYCEUM_HOME": "/x", "LYCEUM_ENVIRONMENT": "production"}, None),
        ({"LYCEUM_ENV_FILE": "/y/named", "LYCEUM_ENVIRONMENT": "production"}, Path("/y/named")),
    ],
)
def test_the_env_file_is_the_running_stacks_and_production_reads_only_a_named_one(
    environment: dict[str, str], file: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LYCEUM_HOME", "LYCEUM_ENV_FILE", "LYCEUM_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert env_file() == file
    if not environment.keys() - {"LYCEUM_HOME"}:
        assert Stack.open().env_file == file
