import json
import subprocess
import sys
from typing import Any

import pytest

from core.logs import mask

_SCRIPT = """
import logging
from core import logs
from core.settings import TelemetrySettings
logs.configure(TelemetrySettings(log_format={format!r}), "api")
log = logs.get_logger("lyceum.test")
with logs.bound(order_id="o-1"):
    log.info("signed in\\nFAKE LINE", password="hunter22", user_id="u-1")
logging.getLogger("other").warning("as %s", "Bearer abcdefgh12345678")
info = {{"workflow_id": "order-0190f1f2-3c4d", "workflow_type": "Order", "attempt": 1}}
logging.getLogger("temporalio.workflow").info("waiting", extra={{"temporal_workflow": info}})
try:
    raise ValueError("sk_test_abcdefgh12345678")
except ValueError:
    log.exception("failed")
"""


def _lines(format: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(format=format)], capture_output=True, text=True, check=True
    )
    return run.stdout.splitlines()


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ("Authorization: Bearer abcdefgh.12345678", "Authorization: Bearer ***"),
        ("amqp://lyceum:s3cret@127.0.0.1:5672/", "amqp://lyceum:***@127.0.0.1:5672/"),
        ("key sk_test_4eC39HqLyjWDarjtT1zdp7dc!", "key ***!"),
        ("whsec_0123456789abcdef", "***"),
        ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "***"),
        ("paid with 4242 4242 4242 4242", "paid with ***"),
        ("paid with 4242424242424242.", "paid with ***."),
        ("order 1234567890123456", "order 1234567890123456"),
        ("0190f1f2-3c4d-7e8f-9a0b-1c2d3e4f5a6b", "0190f1f2-3c4d-7e8f-9a0b-1c2d3e4f5a6b"),
        ("http://127.0.0.1:8000/v1/courses", "http://127.0.0.1:8000/v1/courses"),
        (7, 7),
        (None, None),
    ],
)
def test_masks_what_looks_like_a_secret(value: Any, masked: Any) -> None:
    assert mask(value) == masked


def test_masks_by_name_however_deep() -> None:
    found = mask(
        {"a": [{"Client_Secret": "x", "token_id": "t-1"}], "api_key": "k", "card": {"number": 1}, "tokens": None}
    )
    assert found == {
        "a": [{"Client_Secret": "***", "token_id": "t-1"}],
        "api_key": "***",
        "card": "***",
        "tokens": None,
    }


def test_every_line_is_one_json_object_with_its_ids_and_no_secret() -> None:
    lines = [json.loads(line) for line in _lines("json")]
    for line in lines:
        assert line.pop("timestamp").endswith("Z")
    trace = lines[3].pop("exception")
    assert lines == [
        {
            "event": "signed in\nFAKE LINE",
            "password": "***",
            "user_id": "u-1",
            "order_id": "o-1",
            "level": "info",
            "logger": "lyceum.test",
            "service": "api",
        },
        {"event": "as Bearer ***", "level": "warning", "logger": "other", "service": "api"},
        {
            "event": "waiting",
            "workflow_id": "order-0190f1f2-3c4d",
            "workflow_type": "Order",
            "order_id": "0190f1f2-3c4d",
            "level": "info",
            "logger": "temporalio.workflow",
            "service": "api",
        },
        {"event": "failed", "level": "error", "logger": "lyceum.test", "service": "api"},
    ]
    assert trace.endswith("ValueError: ***")


def test_nothing_draws_a_line_of_its_own_on_the_console() -> None:
    lines = _lines("console")
    assert "signed in\\nFAKE LINE" in lines[0]
    assert not any(line.startswith("FAKE LINE") for line in lines)
