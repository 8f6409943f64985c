"""Signed and opaque tokens: access JWTs (RFC 9068), e-mailed one-purpose JWTs, refresh tokens."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from core import clock
from core.settings import AuthSettings
from domain.identity import InvalidToken, Unauthenticated

_ALGORITHM = "ES256"
_ACCESS_TYPE = "at+jwt"
_EMAIL_TYPE = "email+jwt"
_LEEWAY = 5
_SEEN_TOKENS = 4096
_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)

VERIFY_EMAIL = "verify-email"


@dataclass(frozen=True, slots=True)
class AccessClaims:
    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class EmailClaims:
    """`token_id` is the row in `email_tokens` that says whether the token is still good."""

    user_id: UUID
    token_id: UUID


class Tokens:
    """A keyring of P-256 keys, newest first: the first signs, all verify. A key's id is its RFC 7638 thumbprint."""

    def __init__(self, settings: AuthSettings) -> None:
        pems = _PEM.findall(settings.signing_keys.get_secret_value().replace("\\n", "\n"))
        if not pems:
            raise ValueError("LYCEUM_AUTH__SIGNING_KEYS must hold at least one PEM private key (P-256)")
        keys = [ECKey.import_key(pem) for pem in pems]
        for key in keys:
            if key.curve_name != "P-256" or not key.is_private:
                raise ValueError("LYCEUM_AUTH__SIGNING_KEYS must hold P-256 private keys only")
            key.ensure_kid()
        self._signer = keys[0]
        self._keys = KeySet([*keys])
        self._issuer = settings.issuer
        self._audience = settings.audience
        self._access_ttl = timedelta(seconds=settings.access_ttl)
        self._seen: dict[str, tuple[AccessClaims, float]] = {}

    def access(self, user_id: UUID, session_id: UUID) -> str:
        """An access token for one session, good for `access_ttl`."""
        now = clock.now()
        claims = {
            "sub": str(user_id),
            "sid": str(session_id),
            "client_id": self._issuer,
            "jti": secrets.token_urlsafe(12),
            "iat": now,
            "exp": now + self._access_ttl,
        }
        return self._sign(_ACCESS_TYPE, self._audience, claims)

    def read_access(self, token: str) -> AccessClaims:
        """Raises `Unauthenticated` unless the token is one of ours, for this audience, and not expired.

        A client shows the same token many times: what was verified once is only asked whether it has expired since.
        """
        known = self._seen.get(token)
        if known is not None and clock.now().timestamp() < known[1]:
            return known[0]
        try:
            found = self._read(token, _ACCESS_TYPE, self._audience)
            claims = AccessClaims(UUID(found["sub"]), UUID(found["sid"]))
            self._remember(token, claims, float(found["exp"]))
            return claims
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            raise Unauthenticated("The access token is not valid or has expired.") from None

    def _remember(self, token: str, claims: AccessClaims, expires_at: float) -> None:
        while len(self._seen) >= _SEEN_TOKENS:
            del self._seen[next(iter(self._seen))]
        self._seen[token] = claims, expires_at

    def email(self, purpose: str, user_id: UUID, token_id: UUID, expires_at: datetime) -> str:
        """The token that a mail carries; it opens nothing but `purpose`."""
        claims = {"sub": str(user_id), "jti": str(token_id), "exp": expires_at}
        return self._sign(_EMAIL_TYPE, self._email_audience(purpose), claims)

    def read_email(self, purpose: str, token: str) -> EmailClaims:
        """Raises `InvalidToken` unless the token was mailed by us for `purpose` and has not expired."""
        try:
            claims = self._read(token, _EMAIL_TYPE, self._email_audience(purpose))
            return EmailClaims(UUID(claims["sub"]), UUID(claims["jti"]))
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):
            raise InvalidToken("Ask for a new link.") from None

    def _email_audience(self, purpose: str) -> str:
        return f"{self._issuer}:{purpose}"

    def _sign(self, typ: str, audience: str, claims: Mapping[str, Any]) -> str:
        header = {"alg": _ALGORITHM, "typ": typ, "kid": self._signer.kid}
        return jwt.encode(header, {"iss": self._issuer, "aud": audience, **claims}, self._signer, [_ALGORITHM])

    def _read(self, token: str, typ: str, audience: str) -> dict[str, Any]:
        decoded = jwt.decode(token, self._keys, [_ALGORITHM])
        # Without this a key set tries any key for a token that names none, and a mailed token would pass for another.
        if decoded.header.get("typ") != typ or "kid" not in decoded.header:
            raise ValueError("not this kind of token")
        jwt.JWTClaimsRegistry(
            now=int(clock.now().timestamp()),
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            sub={"essential": True},
        ).validate(decoded.claims)
        return decoded.claims


def new_refresh_token() -> str:
    """An opaque secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(token: str) -> bytes:
    """What the database keeps. Plain SHA-256 is enough: the token is random, there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()
