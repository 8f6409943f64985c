"""What Temporal stores is unreadable without the keyring, and stays readable while keys rotate."""

import base64
from datetime import UTC, datetime
from uuid import UUID

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from core.codec import ENCODING, KeyringCodec, UnknownKey
from core.settings import Settings
from core.temporal import data_converter
from domain.contracts.processes import Subject

MOMENT = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
SOMEBODY = UUID("01900000-0000-7000-8000-000000000001")
OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()
SECRET = Payload(metadata={"encoding": b"json/plain"}, data=b'"ada@example.org"')


def settings(keys: str, environment: str = "test") -> Settings:
    return Settings.model_validate({"environment": environment, "temporal": {"codec_keys": keys}})


async def test_what_was_encrypted_is_decrypted() -> None:
    codec = KeyringCodec.parse(OLD)
    [sealed] = await codec.encode([SECRET])
    assert sealed.metadata["encoding"] == ENCODING
    assert sealed.metadata["encryption-key-id"] == b"old"
    assert b"ada" not in sealed.SerializeToString()
    assert await codec.decode([sealed]) == [SECRET]


async def test_the_same_payload_is_never_sealed_the_same() -> None:
    first, second = await KeyringCodec.parse(OLD).encode([SECRET, SECRET])
    assert first.data != second.data


async def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    [before] = await KeyringCodec.parse(OLD).encode([SECRET])
    rotated = KeyringCodec.parse(f"{NEW}, {OLD}")
    [after] = await rotated.encode([SECRET])
    assert after.metadata["encryption-key-id"] == b"new"
    assert await rotated.decode([before, after]) == [SECRET, SECRET]


async def test_a_key_that_is_gone_is_named() -> None:
    [sealed] = await KeyringCodec.parse(OLD).encode([SECRET])
    with pytest.raises(UnknownKey, match="no codec key 'old'"):
        await KeyringCodec.parse(NEW).decode([sealed])


async def test_a_payload_that_was_tampered_with_does_not_open() -> None:
    codec = KeyringCodec.parse(OLD)
    [sealed] = await codec.encode([SECRET])
    sealed.data = sealed.data[:-1] + bytes([sealed.data[-1] ^ 1])
    with pytest.raises(UnknownKey, match="does not open"):
        await codec.decode([sealed])


async def test_a_payload_cannot_be_passed_off_under_another_key() -> None:
    same_key_twice = KeyringCodec.parse(f"{OLD},{OLD.replace('old', 'other')}")
    [sealed] = await same_key_twice.encode([SECRET])
    sealed.metadata["encryption-key-id"] = b"other"
    with pytest.raises(UnknownKey, match="does not open"):
        await same_key_twice.decode([sealed])


async def test_what_was_written_before_encryption_stays_readable() -> None:
    assert await KeyringCodec.parse(OLD).decode([SECRET]) == [SECRET]


@pytest.mark.parametrize(
    "keyring",
    ["", "old", "old:", ":" + OLD.partition(":")[2], "old:not base64", "old:" + base64.b64encode(b"short").decode()],
)
def test_a_malformed_keyring_is_refused(keyring: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        KeyringCodec.parse(keyring)


async def test_values_keep_their_types_through_encryption() -> None:
    converter = data_converter(settings(OLD))
    subject = Subject(id=SOMEBODY, now=MOMENT)
    sealed = await converter.encode([subject])
    assert str(SOMEBODY).encode() not in sealed[0].data
    assert await converter.decode(sealed, [Subject]) == [subject]


async def test_messages_of_failures_are_encrypted() -> None:
    converter = data_converter(settings(OLD))
    failure = Failure()
    await converter.encode_failure(ApplicationError("ada@example.org has no seat", type="SeatUnavailable"), failure)
    assert b"ada" not in failure.SerializeToString()
    assert failure.application_failure_info.type == "SeatUnavailable"
    assert str(await converter.decode_failure(failure)) == "SeatUnavailable: ada@example.org has no seat"


def test_production_does_not_run_without_keys() -> None:
    with pytest.raises(ValueError, match="LYCEUM_TEMPORAL__CODEC_KEYS"):
        data_converter(settings("", "production"))
    assert data_converter(settings("")).payload_codec is None
