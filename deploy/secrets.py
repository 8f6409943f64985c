"""A fresh secret for each setting that holds one, for the embedded stack and for docker-compose."""

import base64
import secrets
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

Generators = Mapping[str, Callable[[], str]]


def password() -> str:
    """Letters and digits only: it becomes part of URLs."""
    return secrets.token_hex(24)


def _signing_key() -> str:
    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


OURS: Generators = {
    "LYCEUM_S3__ACCESS_KEY": lambda: secrets.token_hex(10).upper(),
    "LYCEUM_S3__SECRET_KEY": password,
    "LYCEUM_AUTH__SIGNING_KEYS": _signing_key,
    "LYCEUM_TEMPORAL__CODEC_KEYS": lambda: "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
    "LYCEUM_CODEC_SERVER__TOKEN": password,
}
STRIPE: Generators = {
    "LYCEUM_STRIPE__SECRET_KEY": lambda: "sk_test_" + secrets.token_hex(16),
    "LYCEUM_STRIPE__WEBHOOK_SECRETS": lambda: "whsec_" + secrets.token_hex(16),
}
"""For the sandbox: the real Stripe gives its own."""
