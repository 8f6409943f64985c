import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import typer
from sqlalchemy import func, insert, select, text
from sqlalchemy.exc import IntegrityError

from core.db import Database
from core.security.passwords import Passwords
from core.security.tokens import EmailClaims
from core.settings import Settings
from domain.errors import NotFound
from domain.identity import AlreadyDecided, InvalidToken, Role
from models.identity import EmailToken, RefreshToken, Session, TeacherRequest, User, UserRole
from services import admin, identity
from services.identity import OpenSession, Reuse

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def email() -> str:
    return f"{uuid4().hex}@example.com"


async def register(
    db: Database,
    email: str,
    *,
    name: str = "Ada",
    password_hash: str = "hash",  # noqa: S107
    now: datetime = NOW,
) -> UUID:
    async with db.transaction() as session:
        await identity.register(session, email=email, name=name, password_hash=password_hash, now=now, ttl=DAY)
        user_id = await session.scalar(select(User.id).where(User.email == email))
    assert user_id is not None
    return user_id


async def events(db: Database, user_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    async with db.read() as session:
        rows = await session.execute(
            text("select type, data from outbox where subject = :subject order by seq"), {"subject": f"user/{user_id}"}
        )
        return [(row.type, row.data) for row in rows]


async def email_tokens(db: Database, user_id: UUID) -> list[EmailToken]:
    async with db.read() as session:
        return list(
            await session.scalars(select(EmailToken).where(EmailToken.user_id == user_id).order_by(EmailToken.id))
        )


async def roles(db: Database, user_id: UUID) -> set[str]:
    async with db.read() as session:
        return set(await session.scalars(select(UserRole.role).where(UserRole.user_id == user_id)))


async def test_registering_opens_a_student_account_and_asks_for_verification(db: Database, email: str) -> None:
    user_id = await register(db, email)
    (token,) = await email_tokens(db, user_id)
    assert (token.name, token.password_hash, token.expires_at, token.used_at) == ("Ada", "hash", NOW + DAY, None)
    assert await roles(db, user_id) == {"student"}
    assert await events(db, user_id) == [
        ("user.registered.v1", {"user_id": str(user_id), "existing": False}),
        ("user.verification_requested.v1", {"user_id": str(user_id), "token_id": str(token.id)}),
    ]


async def test_the_owner_of_a_verified_address_is_told_at_most_once_an_hour(db: Database, email: str) -> None:
    user_id = await register(db, email)
    (token,) = await email_tokens(db, user_id)
    async with db.transaction() as session:
        await identity.verify_email(session, EmailClaims(user_id, token.id), now=NOW)
    for minutes in (1, 20, 59, 61):
        await register(db, email, name="Mallory", password_hash="theirs", now=NOW + timedelta(minutes=minutes))
    told = [data for kind, data in await events(db, user_id) if kind == "user.registered.v1" and data["existing"]]
    assert len(told) == 2
    async with db.read() as session:
        user = await session.get_one(User, user_id)
    assert (user.name, user.password_hash) == ("Ada", "hash")


async def test_a_verification_takes_its_own_registration_and_discards_the_others(db: Database, email: str) -> None:
    user_id = await register(db, email, name="First", password_hash="first")
    await register(db, email, name="Second", password_hash="second")
    first, second = await email_tokens(db, user_id)
    async with db.transaction() as session:
        assert await identity.verify_email(session, EmailClaims(user_id, first.id), now=NOW) == email
    async with db.read() as session:
        user = await session.get_one(User, user_id)
    assert (user.name, user.password_hash, user.email_verified_at) == ("First", "first", NOW)
    assert [token.id for token in await email_tokens(db, user_id)] == [first.id]
    async with db.transaction() as session:
        assert await identity.verify_email(session, EmailClaims(user_id, first.id), now=NOW + DAY) == email
    with pytest.raises(InvalidToken):
        async with db.transaction() as session:
            await identity.verify_email(session, EmailClaims(user_id, second.id), now=NOW)
    assert [kind for kind, _ in await events(db, user_id)].count("user.email_verified.v1") == 1


async def test_tokens_that_are_late_unknown_or_somebody_elses_verify_nothing(db: Database, email: str) -> None:
    user_id, other_id = await register(db, email), await register(db, f"x{email}")
    (token,), (others,) = await email_tokens(db, user_id), await email_tokens(db, other_id)
    for claims, now in (
        (EmailClaims(user_id, token.id), NOW + DAY),
        (EmailClaims(user_id, uuid4()), NOW),
        (EmailClaims(user_id, others.id), NOW),
        (EmailClaims(uuid4(), token.id), NOW),
    ):
        with pytest.raises(InvalidToken):
            async with db.transaction() as session:
                await identity.verify_email(session, claims, now=now)
    async with db.read() as session:
        assert (await session.get_one(User, user_id)).email_verified_at is None


async def test_many_clicks_at_once_verify_once(db: Database, email: str) -> None:
    user_id = await register(db, email)
    (token,) = await email_tokens(db, user_id)

    async def click() -> str:
        async with db.transaction() as session:
            return await identity.verify_email(session, EmailClaims(user_id, token.id), now=NOW)

    assert await asyncio.gather(*(click() for _ in range(5))) == [email] * 5
    assert [kind for kind, _ in await events(db, user_id)].count("user.email_verified.v1") == 1


async def open_session(db: Database, user_id: UUID, ttl: timedelta = DAY) -> OpenSession:
    return await identity.open_session(db, user_id, now=NOW, ttl=ttl)


async def refresh(db: Database, token: str, now: datetime = NOW) -> OpenSession | Reuse | None:
    async with db.transaction() as session:
        return await identity.refresh(session, token, now=now)


async def test_refreshing_hands_out_the_next_link_of_the_chain(db: Database, email: str) -> None:
    opened = await open_session(db, await register(db, email))
    next_ = await refresh(db, opened.refresh_token)
    assert isinstance(next_, OpenSession)
    assert (next_.user_id, next_.session_id) == (opened.user_id, opened.session_id)
    assert next_.refresh_token != opened.refresh_token
    async with db.read() as session:
        chain = (
            await session.scalars(
                select(RefreshToken.used_at)
                .where(RefreshToken.session_id == opened.session_id)
                .order_by(RefreshToken.id)
            )
        ).all()
    assert list(chain) == [NOW, None]


async def test_a_second_use_ends_the_session_but_no_other(db: Database, email: str) -> None:
    user_id = await register(db, email)
    opened, elsewhere = await open_session(db, user_id), await open_session(db, user_id)
    next_ = await refresh(db, opened.refresh_token)
    assert isinstance(next_, OpenSession)
    assert await refresh(db, opened.refresh_token) == Reuse(opened.session_id)
    assert await refresh(db, next_.refresh_token) is None
    assert isinstance(await refresh(db, elsewhere.refresh_token), OpenSession)
    async with db.read() as session:
        assert (await session.get_one(Session, opened.session_id)).revoked_at == NOW
        assert await identity.live_sessions(session, user_id) == [elsewhere.session_id]


async def test_a_session_cannot_be_refreshed_beyond_its_end(db: Database, email: str) -> None:
    opened = await open_session(db, await register(db, email), ttl=timedelta(minutes=10))
    next_ = await refresh(db, opened.refresh_token, now=NOW + timedelta(minutes=9))
    assert isinstance(next_, OpenSession)
    assert await refresh(db, next_.refresh_token, now=NOW + timedelta(minutes=10)) is None
    assert await refresh(db, "unknown") is None


async def test_signing_in_clears_the_users_expired_sessions_away(db: Database, email: str) -> None:
    user_id = await register(db, email)
    old = await open_session(db, user_id, ttl=timedelta(minutes=10))
    new = await identity.open_session(db, user_id, now=NOW + timedelta(minutes=11), ttl=DAY)
    async with db.read() as session:
        left = (await session.scalars(select(Session.id).where(Session.user_id == user_id))).all()
        tokens = await session.scalar(
            select(func.count()).select_from(RefreshToken).where(RefreshToken.session_id == old.session_id)
        )
    assert (left, tokens) == ([new.session_id], 0)


async def test_a_stronger_hash_does_not_overwrite_a_newer_password(db: Database, email: str) -> None:
    user_id = await register(db, email)
    async with db.transaction() as session:
        await identity.replace_hash(session, user_id, old="stale", new="must not be stored")
        await identity.replace_hash(session, user_id, old="hash", new="stronger")
    known = await identity.credentials(db, email)
    assert known is not None
    assert known.password_hash == "stronger"


async def test_asking_to_teach_many_times_under_review_makes_one_request(db: Database, email: str) -> None:
    user_id = await register(db, email)

    async def ask() -> bool:
        async with db.transaction() as session:
            return await identity.request_to_teach(session, user_id, review=True)

    assert await asyncio.gather(*(ask() for _ in range(5))) == [False] * 5
    async with db.read() as session:
        count = await session.scalar(
            select(func.count()).select_from(TeacherRequest).where(TeacherRequest.user_id == user_id)
        )
    assert count == 1
    assert [kind for kind, _ in await events(db, user_id)].count("teacher.requested.v1") == 1


async def test_two_administrators_decide_a_request_once(db: Database, email: str) -> None:
    user_id = await register(db, email)
    async with db.transaction() as session:
        await identity.request_to_teach(session, user_id, review=True)
        request_id = await session.scalar(select(TeacherRequest.id).where(TeacherRequest.user_id == user_id))
        assert request_id is not None

    async def decide(*, approve: bool) -> str:
        async with db.transaction() as session:
            decided = await identity.decide_teacher_request(session, request_id, approve=approve, by=user_id, now=NOW)
            return decided.status

    outcomes = await asyncio.gather(decide(approve=True), decide(approve=False), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyDecided", "TeacherRequestStatus"]
    assert ("approved" in outcomes) is (await roles(db, user_id) == {"student", "teacher"})
    with pytest.raises(AlreadyDecided):
        await decide(approve=True)
    with pytest.raises(NotFound):
        async with db.transaction() as session:
            await identity.decide_teacher_request(session, uuid4(), approve=True, by=user_id, now=NOW)


async def test_granting_a_role_twice_changes_nothing(db: Database, email: str) -> None:
    user_id = await register(db, email)
    async with db.transaction() as session:
        assert await identity.grant_role(session, user_id, Role.TEACHER) is True
        assert await identity.grant_role(session, user_id, Role.TEACHER) is False
    assert [kind for kind, _ in await events(db, user_id)].count("teacher.granted.v1") == 1


async def test_the_first_administrator_is_made_ready_to_sign_in(db: Database, email: str) -> None:
    async with db.transaction() as session:
        user_id, taken = await admin.ensure_admin(session, email=email, name="Root", password_hash="hash")
    assert taken is True
    assert await roles(db, user_id) == {"admin"}
    known = await identity.credentials(db, email)
    assert known == identity.Credentials(user_id, "hash", may_sign_in=True)


async def test_an_account_in_use_becomes_administrator_with_its_own_password(db: Database, email: str) -> None:
    user_id = await register(db, email, password_hash="own")
    (token,) = await email_tokens(db, user_id)
    async with db.transaction() as session:
        await identity.verify_email(session, EmailClaims(user_id, token.id), now=NOW)
        assert await admin.ensure_admin(session, email=email, name="Root", password_hash="new") == (user_id, False)
    assert await roles(db, user_id) == {"student", "admin"}
    async with db.read() as session:
        user = await session.get_one(User, user_id)
    assert (user.name, user.password_hash) == ("Ada", "own")


async def test_whoever_registered_an_unverified_address_does_not_become_administrator(db: Database, email: str) -> None:
    user_id = await register(db, email, name="Squatter", password_hash="squatter")
    async with db.transaction() as session:
        assert await admin.ensure_admin(session, email=email, name="Root", password_hash="root") == (user_id, True)
    (token,) = await email_tokens(db, user_id)
    with pytest.raises(InvalidToken):
        async with db.transaction() as session:
            await identity.verify_email(session, EmailClaims(user_id, token.id), now=NOW)
    async with db.read() as session:
        user = await session.get_one(User, user_id)
    assert (user.name, user.password_hash) == ("Root", "root")


async def test_the_command_makes_an_administrator(
    settings: Settings, db: Database, email: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(admin, "get_settings", lambda: settings)
    await asyncio.to_thread(admin.create, email.upper(), "Root", "a pass phrase of mine")
    await asyncio.to_thread(admin.create, email, "Root", "a pass phrase of mine")
    assert capsys.readouterr().out == (
        f"{email} is an administrator.\n{email} is an administrator now; its name and password stay as they were.\n"
    )
    known = await identity.credentials(db, email)
    assert known is not None
    assert await Passwords(settings.auth).verify("a pass phrase of mine", known.password_hash) == (True, None)
    assert await roles(db, known.user_id) == {"admin"}


@pytest.mark.parametrize(
    ("email", "password", "reason"),
    [
        ("nonsense", "a pass phrase of mine", "This is no e-mail address."),
        ("root@example.com", "password1", "This password is among the most used ones; choose another."),
    ],
)
def test_the_command_refuses_what_registration_would_refuse(
    email: str, password: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stopped:
        admin.create(email, "Root", password)
    assert stopped.value.exit_code == 1
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value"), [("email", "Upper@Example.com"), ("email", "x" * 255), ("status", "odd"), ("name", None)]
)
async def test_the_database_itself_refuses_odd_users(db: Database, email: str, column: str, value: str | None) -> None:
    values = {"email": email, "name": "Ada", "password_hash": "x", "status": "active"} | {column: value}
    with pytest.raises(IntegrityError):
        async with db.transaction() as session:
            await session.execute(insert(User).values(**values))
