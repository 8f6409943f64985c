import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text, update

from api.container import AppContainer
from core import clock
from core.db import Database
from core.security.tokens import VERIFY_EMAIL
from core.settings import Settings
from domain.identity import Role
from models.identity import EmailToken, RefreshToken, Session, User, UserRole
from tests.api.conftest import MakeAccount, serving
from tests.api.events import events_of
from tests.support.accounts import PASSWORD

Register = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture
def email() -> str:
    return f"{uuid4().hex}@example.com"


@pytest.fixture
def register(client: httpx2.AsyncClient, email: str) -> Register:
    async def send(**changes: str) -> httpx2.Response:
        body = {"email": email, "password": PASSWORD, "name": "Grace Hopper"} | changes
        return await client.post("/v1/auth/register", json=body)

    return send


async def user_of(db: Database, email: str) -> User:
    async with db.read() as session:
        return (await session.scalars(select(User).where(User.email == email))).one()


async def mailed_tokens(db: Database, container: AppContainer, email: str) -> list[str]:
    """The tokens of the mails that were asked for, oldest first."""
    async with db.read() as session:
        rows = await session.scalars(
            select(EmailToken)
            .join(User, User.id == EmailToken.user_id)
            .where(User.email == email)
            .order_by(EmailToken.id)
        )
        return [container.tokens.email(VERIFY_EMAIL, row.user_id, row.id, row.expires_at) for row in rows]


async def log_in(client: httpx2.AsyncClient, email: str, password: str = PASSWORD) -> httpx2.Response:
    return await client.post("/v1/auth/login", json={"email": email, "password": password})


async def test_register_verify_log_in_read_me_log_out(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    answer = await register(email=email.upper(), name="  Grace \n Hopper ")
    assert answer.status_code == 201
    assert answer.json() == {"email": email, "status": "verification_sent"}
    user = await user_of(db, email)
    assert (user.name, user.email_verified_at) == ("Grace Hopper", None)
    assert user.password_hash.startswith("$argon2id$")

    assert (await log_in(client, email)).status_code == 401
    (token,) = await mailed_tokens(db, container, email)
    for _ in range(2):
        verified = await client.post("/v1/auth/verify-email", json={"token": token})
        assert (verified.status_code, verified.json()) == (200, {"email": email, "email_verified": True})

    answer = await log_in(client, email.upper())
    assert answer.status_code == 200
    pair = answer.json()
    assert pair.keys() == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert (pair["expires_in"], pair["token_type"]) == (container.settings.auth.access_ttl, "Bearer")

    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    me = await client.get("/v1/me", headers=headers)
    assert (me.status_code, me.json()["email"], me.json()["roles"]) == (200, email, ["student"])

    out = await client.post("/v1/auth/logout", headers=headers)
    assert (out.status_code, out.content) == (204, b"")
    assert out.headers["clear-site-data"] == '"cache", "storage"'
    assert (await client.get("/v1/me", headers=headers)).status_code == 401
    again = await client.post("/v1/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert (again.status_code, again.json()["code"]) == (401, "InvalidRefreshToken")
    assert await events_of(db, user.id) == [
        "user.registered.v1",
        "user.verification_requested.v1",
        "user.email_verified.v1",
    ]


async def test_an_address_with_an_account_is_answered_the_same_and_its_owner_told_once(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    first = await register()
    (token,) = await mailed_tokens(db, container, email)
    await client.post("/v1/auth/verify-email", json={"token": token})
    before = await user_of(db, email)

    for _ in range(2):
        second = await register(password="another pass phrase", name="Mallory")
        assert (second.status_code, second.json()) == (first.status_code, first.json())
    after = await user_of(db, email)
    assert (after.name, after.password_hash) == (before.name, before.password_hash)
    assert (await events_of(db, before.id)).count("user.registered.v1") == 2
    async with db.read() as session:
        data = await session.scalars(
            text("select data->'existing' from outbox where type = 'user.registered.v1' and subject = :subject"),
            {"subject": f"user/{before.id}"},
        )
        assert sorted(data) == [False, True]


async def test_each_mail_stands_for_its_own_registration(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    await register(password="the password of the owner", name="Owner")
    await register(password="the password of another", name="Another")
    owner, another = await mailed_tokens(db, container, email)

    assert (await client.post("/v1/auth/verify-email", json={"token": owner})).status_code == 200
    assert (await user_of(db, email)).name == "Owner"
    assert (await log_in(client, email, "the password of the owner")).status_code == 200
    assert (await log_in(client, email, "the password of another")).status_code == 401
    late = await client.post("/v1/auth/verify-email", json={"token": another})
    assert (late.status_code, late.json()["code"]) == (422, "InvalidToken")


async def test_two_registrations_at_once_make_one_account(
    client: httpx2.AsyncClient, db: Database, register: Register, email: str
) -> None:
    answers = await asyncio.gather(*(register() for _ in range(4)))
    assert {answer.status_code for answer in answers} == {201}
    async with db.read() as session:
        assert await session.scalar(select(func.count()).select_from(User).where(User.email == email)) == 1


@pytest.mark.parametrize(
    ("changes", "field", "code"),
    [
        ({"password": "seven77"}, "password", "string_too_short"),
        ({"password": "x" * 257}, "password", "string_too_long"),
        ({"password": "PassWord1"}, "password", "too_common"),
        ({"password": "zzzzzzzzzz"}, "password", "too_common"),
        ({"password": "grace hopper"}, "password", "too_personal"),
        ({"email": "no-address"}, "email", "string_pattern_mismatch"),
        ({"email": "a@b.example\r\nBcc: c@d.example"}, "email", "string_pattern_mismatch"),
        ({"email": "x" * 250 + "@example.com"}, "email", "string_too_long"),
        ({"name": ""}, "name", "string_too_short"),
        ({"name": " \n\t "}, "name", "empty"),
        ({"roles": "admin"}, "roles", "extra_forbidden"),
    ],
)
async def test_a_refused_registration_names_the_field(
    register: Register, changes: dict[str, str], field: str, code: str
) -> None:
    answer = await register(**changes)
    assert answer.status_code == 422
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == [(field, code)]


async def test_a_long_pass_phrase_with_any_characters_works_unchanged(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    phrase = "  Пароль 密码 " + "x" * 100 + "  "
    assert (await register(password=phrase)).status_code == 201
    (token,) = await mailed_tokens(db, container, email)
    await client.post("/v1/auth/verify-email", json={"token": token})
    assert (await log_in(client, email, phrase)).status_code == 200
    assert (await log_in(client, email, phrase.strip())).status_code == 401


async def test_mails_to_one_address_are_throttled(register: Register) -> None:
    answers = [await register() for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    assert answers[-1].json()["code"] == "TooManyAttempts"
    assert answers[-1].headers["retry-after"] == "3600"


async def test_an_expired_verification_token_is_refused(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    await register()
    user = await user_of(db, email)
    async with db.transaction() as session:
        await session.execute(
            update(EmailToken)
            .where(EmailToken.user_id == user.id)
            .values(expires_at=clock.now() - timedelta(minutes=1))
        )
        token_id = await session.scalar(select(EmailToken.id).where(EmailToken.user_id == user.id))
        assert token_id is not None
    forever = container.tokens.email(VERIFY_EMAIL, user.id, token_id, clock.now() + timedelta(days=1))
    expired = container.tokens.email(VERIFY_EMAIL, user.id, token_id, clock.now() - timedelta(minutes=1))
    for token in (forever, expired, "nonsense"):
        answer = await client.post("/v1/auth/verify-email", json={"token": token})
        assert (answer.status_code, answer.json()["code"]) == (422, "InvalidToken")


async def test_an_access_token_verifies_no_address_and_a_mailed_token_signs_nobody_in(
    client: httpx2.AsyncClient, container: AppContainer, make_account: MakeAccount
) -> None:
    account = await make_account()
    access = account.headers["Authorization"].removeprefix("Bearer ")
    answer = await client.post("/v1/auth/verify-email", json={"token": access})
    assert (answer.status_code, answer.json()["code"]) == (422, "InvalidToken")
    mailed = container.tokens.email(VERIFY_EMAIL, account.user_id, account.session_id, clock.now() + timedelta(days=1))
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {mailed}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "Unauthenticated")


async def test_the_mailed_link_opens_a_page_that_verifies_on_a_click(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    await register()
    (token,) = await mailed_tokens(db, container, email)
    page = await client.get("/verify-email", params={"token": token})
    assert page.status_code == 200
    assert f'value="{token}"' in page.text
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert (await user_of(db, email)).email_verified_at is None

    done = await client.post("/verify-email", data={"token": token})
    assert done.status_code == 200
    assert email in done.text
    assert (await user_of(db, email)).email_verified_at is not None
    bad = await client.post("/verify-email", data={"token": '"><script>'})
    assert bad.status_code == 422
    hostile = await client.get("/verify-email", params={"token": '"><script>alert(1)</script>'})
    assert "<script>" not in hostile.text


async def verified(db: Database, container: AppContainer, email: str, *, status: str = "active") -> UUID:
    async with db.transaction() as session:
        user = User(
            email=email,
            name="Grace Hopper",
            password_hash=await container.passwords.hash(PASSWORD),
            email_verified_at=clock.now(),
            status=status,
        )
        session.add(user)
        await session.flush()
        session.add(UserRole(user_id=user.id, role=Role.STUDENT))
        return user.id


async def test_wrong_password_unknown_unconfirmed_and_suspended_accounts_are_told_apart_by_nobody(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, register: Register, email: str
) -> None:
    suspended, unconfirmed = f"{uuid4().hex}@example.com", f"{uuid4().hex}@example.com"
    await verified(db, container, email)
    await verified(db, container, suspended, status="suspended")
    for address in (email, unconfirmed):  # as somebody does who wants to know whether there is an account
        assert (await register(email=address, password="a password of their own")).status_code == 201
    answers = [
        await log_in(client, email, "not the password"),
        await log_in(client, f"{uuid4().hex}@example.com"),
        await log_in(client, suspended),
        await log_in(client, unconfirmed, "a password of their own"),
        await log_in(client, email, "a password of their own"),
    ]
    problems = [answer.json() | {"request_id": ""} for answer in answers]
    assert problems == [problems[0]] * 5
    assert [answer.status_code for answer in answers] == [401] * 5
    assert problems[0]["code"] == "InvalidCredentials"
    assert answers[0].headers["www-authenticate"] == "Bearer"


async def test_guessing_is_throttled_per_address_and_successes_do_not_count(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, email: str
) -> None:
    await verified(db, container, email)
    attempts = container.settings.auth.login_attempts
    for _ in range(attempts - 1):
        assert (await log_in(client, email, "not the password")).status_code == 401
    for _ in range(2):
        assert (await log_in(client, email)).status_code == 200
    assert (await log_in(client, email, "not the password")).status_code == 401
    blocked = await log_in(client, email)
    assert (blocked.status_code, blocked.json()["code"]) == (429, "TooManyAttempts")
    assert blocked.headers["retry-after"] == str(container.settings.auth.login_window)
    other = f"{uuid4().hex}@example.com"
    await verified(db, container, other)
    assert (await log_in(client, other)).status_code == 200


@pytest.fixture
async def strict(settings: Settings) -> AsyncIterator[FastAPI]:
    """An application that takes one wrong password, with counters of its own."""
    changes = {
        "auth": settings.auth.model_copy(update={"login_attempts": 1}),
        "redis": settings.redis.model_copy(update={"prefix": f"strict-{uuid4().hex}"}),
    }
    async with serving(settings.model_copy(update=changes)) as (app, _):
        yield app


async def log_in_from(app: FastAPI, host: str, email: str, password: str = PASSWORD) -> int:
    transport = httpx2.ASGITransport(app, client=(host, 50000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api.test") as client:
        return (await log_in(client, email, password)).status_code


async def test_guessing_is_throttled_per_origin_across_addresses_also_all_at_once(strict: FastAPI) -> None:
    strangers = [f"{uuid4().hex}@example.com" for _ in range(20)]
    statuses = await asyncio.gather(*(log_in_from(strict, "192.0.2.1", email) for email in strangers))
    assert sorted(statuses) == [401] * 10 + [429] * 10


async def test_guessing_from_many_origins_is_throttled_and_locks_nobody_out_of_where_they_are(
    strict: FastAPI, db: Database, container: AppContainer, email: str
) -> None:
    await verified(db, container, email)
    assert await log_in_from(strict, "192.0.2.1", email) == 200
    statuses = [await log_in_from(strict, f"198.51.100.{n}", email, "not the password") for n in range(11)]
    assert statuses == [401] * 10 + [429]
    assert await log_in_from(strict, "192.0.2.2", email) == 429
    assert await log_in_from(strict, "192.0.2.1", email) == 200


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("unknown", "192.0.2.1", False),
    ],
)
async def test_an_origin_is_a_customers_network(
    strict: FastAPI, email: str, one: str, another: str, *, same: bool
) -> None:
    assert await log_in_from(strict, one, email) == 401
    assert await log_in_from(strict, another, email) == (429 if same else 401)


async def test_a_login_stores_a_stronger_hash_when_the_cost_was_raised(
    settings: Settings, db: Database, container: AppContainer, email: str
) -> None:
    await verified(db, container, email)
    before = (await user_of(db, email)).password_hash
    memory = settings.auth.argon2_memory * 2
    dearer = settings.model_copy(update={"auth": settings.auth.model_copy(update={"argon2_memory": memory})})
    async with serving(dearer) as (_, client):
        assert (await log_in(client, email)).status_code == 200
        after = (await user_of(db, email)).password_hash
        assert (before != after, f"m={memory}," in after) == (True, True)
        assert (await log_in(client, email)).status_code == 200
    assert (await user_of(db, email)).password_hash == after


async def test_refresh_tokens_rotate_and_the_old_access_token_lives_on(
    client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    account = await make_account()
    token = account.refresh_token
    for _ in range(3):
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": token})
        assert answer.status_code == 200
        assert answer.json()["refresh_token"] != token
        token = answer.json()["refresh_token"]
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await client.get("/v1/me", headers=headers)).json()["id"] == str(account.user_id)
    assert (await client.get("/v1/me", headers=account.headers)).status_code == 200


async def test_a_refresh_token_used_twice_ends_the_session_at_once(
    client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    account, bystander = await make_account(), await make_account()
    stolen = await client.post("/v1/auth/refresh", json={"refresh_token": account.refresh_token})
    assert (await client.get("/v1/me", headers=account.headers)).status_code == 200

    reused = await client.post("/v1/auth/refresh", json={"refresh_token": account.refresh_token})
    assert (reused.status_code, reused.json()["code"]) == (401, "InvalidRefreshToken")
    latest = await client.post("/v1/auth/refresh", json={"refresh_token": stolen.json()["refresh_token"]})
    assert (latest.status_code, latest.json()["code"]) == (401, "InvalidRefreshToken")
    for token in (account.headers["Authorization"], f"Bearer {stolen.json()['access_token']}"):
        assert (await client.get("/v1/me", headers={"Authorization": token})).status_code == 401
    assert (await client.get("/v1/me", headers=bystander.headers)).status_code == 200


async def test_one_refresh_token_sent_by_many_at_once_is_honoured_once(
    client: httpx2.AsyncClient, make_account: MakeAccount
) -> None:
    account = await make_account()
    body = {"refresh_token": account.refresh_token}
    answers = await asyncio.gather(*(client.post("/v1/auth/refresh", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401, 401]
    assert (await client.get("/v1/me", headers=account.headers)).status_code == 401


async def test_refresh_refuses_unknown_tokens_expired_sessions_and_suspended_users(
    client: httpx2.AsyncClient, db: Database, make_account: MakeAccount
) -> None:
    expired, suspended = await make_account(), await make_account()
    async with db.transaction() as session:
        await session.execute(
            update(Session)
            .where(Session.id == expired.session_id)
            .values(expires_at=clock.now() - timedelta(seconds=1))
        )
        await session.execute(update(User).where(User.id == suspended.user_id).values(status="suspended"))
    for token in ("unknown", expired.refresh_token, suspended.refresh_token):
        answer = await client.post("/v1/auth/refresh", json={"refresh_token": token})
        assert (answer.status_code, answer.json()["code"]) == (401, "InvalidRefreshToken")
    for account in (expired, suspended):
        assert (await client.get("/v1/me", headers=account.headers)).status_code == 401


async def test_the_database_keeps_no_refresh_token_in_clear(db: Database, make_account: MakeAccount) -> None:
    account = await make_account()
    async with db.read() as session:
        stored = (
            await session.scalars(select(RefreshToken).where(RefreshToken.session_id == account.session_id))
        ).one()
    assert len(stored.token_hash) == 32
    assert account.refresh_token.encode() not in stored.token_hash


async def test_logging_out_ends_this_session_only(
    client: httpx2.AsyncClient, db: Database, container: AppContainer, email: str
) -> None:
    await verified(db, container, email)
    here, there = [(await log_in(client, email)).json() for _ in range(2)]
    await client.post("/v1/auth/logout", headers={"Authorization": f"Bearer {here['access_token']}"})
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {there['access_token']}"})
    assert answer.status_code == 200


async def test_a_token_of_another_user_does_not_open_a_session(
    client: httpx2.AsyncClient, container: AppContainer, make_account: MakeAccount
) -> None:
    mine, theirs = await make_account(), await make_account()
    crossed = container.tokens.access(mine.user_id, theirs.session_id)
    answer = await client.get("/v1/me", headers={"Authorization": f"Bearer {crossed}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "Unauthenticated")


@pytest.mark.parametrize("header", [None, "Basic dXNlcjpwYXNz", "Bearer", "Bearer x.y.z", "Bearer " + "a" * 3000])
async def test_without_a_good_token_the_answer_is_401(client: httpx2.AsyncClient, header: str | None) -> None:
    answer = await client.get("/v1/me", headers={} if header is None else {"Authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (401, "Unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
