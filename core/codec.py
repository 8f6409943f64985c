"""Encryption of everything Temporal stores: AES-256-GCM with a keyring, so that keys rotate without losing history."""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING = b"binary/encrypted"
_NONCE = 12


class UnknownKey(Exception):
    """The payload was encrypted with a key that is not in the keyring, or was tampered with."""


@dataclass(frozen=True)
class KeyringCodec(PayloadCodec):
    """The first key encrypts; every key decrypts. The key's id is authenticated with the payload."""

    keys: Mapping[str, AESGCM]
    current: str

    @classmethod
    def parse(cls, keyring: str) -> "KeyringCodec":
        """`id:base64,id:base64`, each key 32 bytes. Raises `ValueError` for anything else."""
        keys: dict[str, AESGCM] = {}
        for entry in keyring.split(","):
            key_id, separator, encoded = entry.strip().partition(":")
            key = base64.b64decode(encoded, validate=True)
            if not separator or not key_id or len(key) != 32:
                raise ValueError("a codec key is written id:base64 of 32 bytes")
            keys[key_id] = AESGCM(key)
        return cls(keys, next(iter(keys)))

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._encrypt(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(self._decrypt_all(payloads))

    def _encrypt(self, payload: Payload) -> Payload:
        nonce = os.urandom(_NONCE)
        key_id = self.current.encode()
        sealed = self.keys[self.current].encrypt(nonce, payload.SerializeToString(), key_id)
        return Payload(metadata={"encoding": ENCODING, "encryption-key-id": key_id}, data=nonce + sealed)

    def _decrypt_all(self, payloads: Iterable[Payload]) -> Iterable[Payload]:
        for payload in payloads:
            if payload.metadata.get("encoding") != ENCODING:
                yield payload  # written before encryption was switched on
                continue
            key_id = payload.metadata["encryption-key-id"]
            key = self.keys.get(key_id.decode())
            if key is None:
                raise UnknownKey(f"no codec key {key_id.decode()!r}")
            try:
                opened = key.decrypt(payload.data[:_NONCE], payload.data[_NONCE:], key_id)
            except InvalidTag as error:
                raise UnknownKey("the payload does not open with its key") from error
            yield Payload.FromString(opened)
