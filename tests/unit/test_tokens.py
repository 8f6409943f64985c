import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import time_machine
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from pydantic import SecretStr

from core.security.tokens import VERIFY_EMAIL, AccessClaims, Tokens, hash_refresh_token, new_refresh_token
from core.settings import AuthSettings
from domain.identity import InvalidToken, Unauthenticated

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USER, SESSION = uuid4(), uuid4()


def pem(key: ECKey | RSAKey) -> str:
    return key.as_pem(private=True).decode()


KEY = ECKey.generate_key("P-256")


def tokens(*keys: ECKey, **changes: Any) -> Tokens:
    return Tokens(AuthSettings(signing_keys=SecretStr("\n".join(pem(key) for key in keys or (KEY,))), **changes))


def decoded(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, claims))


@time_machine.travel(NOW, tick=False)
def test_an_access_token_says_who_for_whom_and_until_when() -> None:
    header, claims = decoded(tokens().access(USER, SESSION))
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": KEY.thumbprint()}
    assert claims.pop("jti")
    assert claims == {
        "iss": "lyceum",
        "aud": "lyceum-api",
        "sub": str(USER),
        "sid": str(SESSION),
        "client_id": "lyceum",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 600,
    }


def test_an_access_token_is_read_back() -> None:
    ours = tokens()
    claims = ours.read_access(ours.access(USER, SESSION))
    assert (claims.user_id, claims.session_id) == (USER, SESSION)


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (599, True), (604, True), (606, False), (86400, False)])
def test_an_access_token_ends(seconds: int, *, good: bool) -> None:
    ours = tokens()
    with time_machine.travel(NOW, tick=False):
        token = ours.access(USER, SESSION)
    with time_machine.travel(NOW + timedelta(seconds=seconds), tick=False):
        if good:
            ours.read_access(token)
        else:
            with pytest.raises(Unauthenticated):
                ours.read_access(token)


def test_an_older_key_still_verifies_and_a_removed_one_does_not() -> None:
    old, new = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    token = tokens(old).access(USER, SESSION)
    rotated = tokens(new, old)
    assert rotated.read_access(token).user_id == USER
    assert decoded(rotated.access(USER, SESSION))[0]["kid"] == new.thumbprint()
    with pytest.raises(Unauthenticated):
        tokens(new).read_access(token)


def _forged(change: Callable[[dict[str, Any], dict[str, Any]], None], key: ECKey = KEY) -> str:
    now = int(datetime.now(UTC).timestamp())
    header: dict[str, Any] = {"alg": "ES256", "typ": "at+jwt", "kid": KEY.thumbprint()}
    claims: dict[str, Any] = {
        "iss": "lyceum",
        "aud": "lyceum-api",
        "sub": str(USER),
        "sid": str(SESSION),
        "iat": now,
        "exp": now + 600,
    }
    change(header, claims)
    return jwt.encode(header, claims, key, ["ES256"], default_type=None)


def test_the_forgeries_differ_from_a_good_token_in_one_thing_only() -> None:
    assert tokens().read_access(_forged(lambda header, claims: None)).user_id == USER


@pytest.mark.parametrize(
    "change",
    [
        lambda header, claims: header.pop("kid"),
        lambda header, claims: header.update(kid="unknown"),
        lambda header, claims: header.update(typ="JWT"),
        lambda header, claims: header.pop("typ"),
        lambda header, claims: claims.update(iss="somebody"),
        lambda header, claims: claims.pop("iss"),
        lambda header, claims: claims.update(aud="another-api"),
        lambda header, claims: claims.pop("aud"),
        lambda header, claims: claims.pop("exp"),
        lambda header, claims: claims.update(exp="tomorrow"),
        lambda header, claims: claims.update(nbf=claims["iat"] + 60),
        lambda header, claims: claims.update(iat=claims["iat"] + 60),
        lambda header, claims: claims.pop("sub"),
        lambda header, claims: claims.update(sub="nobody"),
        lambda header, claims: claims.update(sub=5),
        lambda header, claims: claims.pop("sid"),
    ],
)
def test_one_wrong_claim_or_header_is_enough_to_refuse(
    change: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    with pytest.raises(Unauthenticated):
        tokens().read_access(_forged(change))


def test_a_token_signed_by_somebody_else_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        tokens().read_access(_forged(lambda header, claims: None, key=ECKey.generate_key("P-256")))


def test_other_algorithms_are_refused() -> None:
    claims = decoded(tokens().access(USER, SESSION))[1]
    public = KEY.as_pem(private=False)
    header = {"typ": "at+jwt", "kid": KEY.thumbprint()}
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({**header, "alg": "none"}, claims)
    )
    confused = jwt.encode(
        {**header, "alg": "HS256"}, claims, OctKey.import_key(base64.urlsafe_b64encode(public)), ["HS256"]
    )
    for token in (f"{unsigned}.", confused, "", "a.b.c", "ü.ü.ü", "." * 5):
        with pytest.raises(Unauthenticated):
            tokens().read_access(token)


def test_a_key_named_in_the_token_is_not_fetched_or_believed() -> None:
    stranger = ECKey.generate_key("P-256")
    change = lambda header, claims: header.update(jwk=stranger.as_dict(private=False), jku="https://evil.example")  # noqa: E731
    with pytest.raises(Unauthenticated):
        tokens().read_access(_forged(change, key=stranger))


def test_a_mailed_token_opens_its_purpose_only() -> None:
    ours, token_id = tokens(), UUID(int=7)
    token = ours.email(VERIFY_EMAIL, USER, token_id, datetime.now(UTC) + timedelta(hours=1))
    claims = ours.read_email(VERIFY_EMAIL, token)
    assert (claims.user_id, claims.token_id) == (USER, token_id)
    with pytest.raises(InvalidToken):
        ours.read_email("reset-password", token)
    with pytest.raises(Unauthenticated):
        ours.read_access(token)
    with pytest.raises(InvalidToken):
        ours.read_email(VERIFY_EMAIL, ours.access(USER, SESSION))


@pytest.mark.parametrize(("seconds", "good"), [(599, True), (604, True), (606, False)])
def test_a_token_that_was_verified_before_ends_all_the_same(seconds: int, *, good: bool) -> None:
    ours = tokens()
    with time_machine.travel(NOW, tick=False):
        token = ours.access(USER, SESSION)
        assert ours.read_access(token) == ours.read_access(token) == AccessClaims(USER, SESSION)
    with time_machine.travel(NOW + timedelta(seconds=seconds), tick=False):
        if good:
            assert ours.read_access(token) == AccessClaims(USER, SESSION)
        else:
            with pytest.raises(Unauthenticated):
                ours.read_access(token)


def test_only_so_many_verified_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.security.tokens._SEEN_TOKENS", 2)
    ours = tokens()
    issued = [ours.access(USER, SESSION) for _ in range(3)]
    assert {ours.read_access(token) for token in issued * 2} == {AccessClaims(USER, SESSION)}
    assert len(ours._seen) == 2


def test_a_mailed_token_expires() -> None:
    ours = tokens()
    token = ours.email(VERIFY_EMAIL, USER, UUID(int=7), datetime.now(UTC) - timedelta(seconds=10))
    with pytest.raises(InvalidToken):
        ours.read_email(VERIFY_EMAIL, token)


@pytest.mark.parametrize("keys", ["", "nonsense", pem(ECKey.generate_key("P-384"))])
def test_without_a_p256_key_the_process_does_not_start(keys: str) -> None:
    with pytest.raises(ValueError, match="LYCEUM_AUTH__SIGNING_KEYS"):
        Tokens(AuthSettings(signing_keys=SecretStr(keys)))


def test_keys_may_have_their_line_ends_escaped() -> None:
    escaped = Tokens(AuthSettings(signing_keys=SecretStr(pem(KEY).replace("\n", "\\n"))))
    assert escaped.read_access(tokens().access(USER, SESSION)).user_id == USER


def test_refresh_tokens_are_random_and_hashed() -> None:
    many = {new_refresh_token() for _ in range(100)}
    assert len(many) == 100
    assert {len(token) for token in many} == {43}
    assert len(hash_refresh_token("x")) == 32
    assert hash_refresh_token("x") != hash_refresh_token("y")
