"""Accounts: registration, verification, sessions, roles. Passwords arrive hashed; time arrives as `now`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.db import Database
from core.ids import new_id
from core.security.tokens import VERIFY_EMAIL, EmailClaims, hash_refresh_token, new_refresh_token
from domain.contracts.events import (
    EmailVerified,
    TeacherGranted,
    TeacherRejected,
    TeacherRequested,
    UserRegistered,
    VerificationRequested,
)
from domain.errors import NotFound
from domain.identity import AlreadyDecided, InvalidToken, Role, TeacherRequestStatus
from models.identity import EmailToken, RefreshToken, Session, TeacherRequest, User, UserRole
from services.outbox import emit
from services.paging import keyset


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a sign-in is checked against. Who has not confirmed the address or is suspended may not sign in."""

    user_id: UUID
    password_hash: str
    may_sign_in: bool


@dataclass(frozen=True, slots=True)
class OpenSession:
    """`refresh_token` is in clear here and nowhere else; the database keeps its hash."""

    user_id: UUID
    session_id: UUID
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Reuse:
    """A refresh token came a second time: one of the two holders stole it, so the session was ended."""

    session_id: UUID


_OPEN = """
with expired as (
  delete from sessions where user_id = $1 and expires_at < $2
), opened as (
  insert into sessions (id, user_id, expires_at) values ($3, $1, $4) returning id
)
insert into refresh_tokens (id, session_id, token_hash) select $5, id, $6 from opened
"""
"""One statement: signing in is what everybody waits for at nine in the morning."""


async def register(
    session: AsyncSession, *, email: str, name: str, password_hash: str, now: datetime, ttl: timedelta
) -> None:
    """Opens an account and asks for its address to be verified within `ttl`.

    For an address that has an account nothing is told to the caller. A verified owner gets a notice by mail (at most
    one an hour); an unverified address gets another verification mail, which stands for this registration's password.
    """
    user_id = new_id()
    inserted = await session.scalar(
        upsert(User)
        .values(id=user_id, email=email, name=name, password_hash=password_hash)
        .on_conflict_do_nothing(index_elements=[User.email])
        .returning(User.id)
    )
    if inserted is None:
        owner = (await session.execute(select(User.id, User.email_verified_at).where(User.email == email))).one()
        user_id = owner.id
        if owner.email_verified_at is not None:
            await emit(session, UserRegistered(user_id=user_id, existing=True), key=f"{user_id}:{now:%Y-%m-%dT%H}")
            return
    else:
        await session.execute(insert(UserRole).values(user_id=user_id, role=Role.STUDENT))
        await emit(session, UserRegistered(user_id=user_id))
    await _request_verification(session, user_id, name, password_hash, now + ttl)


async def _request_verification(
    session: AsyncSession, user_id: UUID, name: str, password_hash: str, expires_at: datetime
) -> None:
    token_id = new_id()
    await session.execute(
        insert(EmailToken).values(
            id=token_id,
            user_id=user_id,
            purpose=VERIFY_EMAIL,
            name=name,
            password_hash=password_hash,
            expires_at=expires_at,
        )
    )
    await emit(session, VerificationRequested(user_id=user_id, token_id=token_id))


async def verify_email(session: AsyncSession, claims: EmailClaims, *, now: datetime) -> str:
    """Marks the address as verified and returns it; a second click on the same link does no harm.

    Raises `InvalidToken` when the token is unknown, expired or was superseded.
    """
    user = await session.get(User, claims.user_id, with_for_update=True)
    token = await session.get(EmailToken, claims.token_id)
    if user is None or token is None or token.user_id != user.id or token.purpose != VERIFY_EMAIL:
        raise InvalidToken("Ask for a new link.")
    if token.used_at is not None:
        return user.email
    if token.expires_at <= now or user.email_verified_at is not None:
        raise InvalidToken("Ask for a new link.")
    token.used_at = now
    user.email_verified_at = now
    user.name, user.password_hash = token.name, token.password_hash
    await session.execute(delete(EmailToken).where(EmailToken.user_id == user.id, EmailToken.id != token.id))
    await emit(session, EmailVerified(user_id=user.id), key=str(user.id))
    return user.email


async def credentials(db: Database, email: str) -> Credentials | None:
    """What is known of the account of `email`; None when there is none."""
    row = await db.fetch_row(
        "select id, password_hash, email_verified_at is not null and status = 'active' from users where email = $1",
        email,
    )
    return None if row is None else Credentials(*row)


async def replace_hash(session: AsyncSession, user_id: UUID, *, old: str, new: str) -> None:
    """Stores a hash made with today's cost, unless the password was changed meanwhile."""
    await session.execute(update(User).where(User.id == user_id, User.password_hash == old).values(password_hash=new))


async def open_session(db: Database, user_id: UUID, *, now: datetime, ttl: timedelta) -> OpenSession:
    """Signs the user in for at most `ttl`; what is left of the user's expired sessions goes."""
    session_id, token = new_id(), new_refresh_token()
    await db.fetch_row(_OPEN, user_id, now, session_id, now + ttl, new_id(), hash_refresh_token(token))
    return OpenSession(user_id, session_id, token)


async def refresh(session: AsyncSession, token: str, *, now: datetime) -> OpenSession | Reuse | None:
    """Takes a refresh token back and hands out the next one.

    A token that was used before ends its session (`Reuse`; the caller must commit that). None: unknown or expired.
    """
    token_hash = hash_refresh_token(token)
    row = (
        await session.execute(
            update(RefreshToken)
            .where(
                RefreshToken.token_hash == token_hash,
                RefreshToken.used_at.is_(None),
                Session.id == RefreshToken.session_id,
                Session.revoked_at.is_(None),
                Session.expires_at > now,
                User.id == Session.user_id,
                User.status == "active",
            )
            .values(used_at=now)
            .returning(Session.id, Session.user_id)
        )
    ).one_or_none()
    if row is not None:
        next_token = new_refresh_token()
        await session.execute(
            insert(RefreshToken).values(id=new_id(), session_id=row.id, token_hash=hash_refresh_token(next_token))
        )
        return OpenSession(row.user_id, row.id, next_token)
    session_id = await session.scalar(
        select(RefreshToken.session_id).where(RefreshToken.token_hash == token_hash, RefreshToken.used_at.is_not(None))
    )
    if session_id is None:
        return None
    await end_session(session, session_id, now=now)
    return Reuse(session_id)


async def end_session(session: AsyncSession, session_id: UUID, *, now: datetime) -> None:
    """Its access and refresh tokens are worthless from now on."""
    await session.execute(
        update(Session).where(Session.id == session_id, Session.revoked_at.is_(None)).values(revoked_at=now)
    )


async def live_sessions(session: AsyncSession, user_id: UUID) -> Sequence[UUID]:
    """The user's sessions that have not been ended: those to forget in `Access` when the roles change."""
    found = await session.scalars(select(Session.id).where(Session.user_id == user_id, Session.revoked_at.is_(None)))
    return found.all()


async def profile(session: AsyncSession, user_id: UUID) -> User:
    """The user's own account. Raises `NotFound`."""
    user = await session.get(User, user_id)
    if user is None:
        raise NotFound("There is no such account.")
    return user


async def grant_role(session: AsyncSession, user_id: UUID, role: Role) -> bool:
    """Gives the role; False when the user has it already."""
    granted = await session.scalar(
        upsert(UserRole).values(user_id=user_id, role=role).on_conflict_do_nothing().returning(UserRole.role)
    )
    if granted is None:
        return False
    if role is Role.TEACHER:
        await emit(session, TeacherGranted(user_id=user_id), key=str(user_id))
    return True


async def request_to_teach(session: AsyncSession, user_id: UUID, *, review: bool) -> bool:
    """True when the user is a teacher now; False when an administrator has to decide first."""
    is_teacher = exists().where(UserRole.user_id == user_id, UserRole.role == Role.TEACHER)
    if await session.scalar(select(is_teacher)):
        return True
    if not review:
        await grant_role(session, user_id, Role.TEACHER)
        return True
    request_id = await session.scalar(
        upsert(TeacherRequest)
        .values(id=new_id(), user_id=user_id)
        .on_conflict_do_nothing(
            index_elements=["user_id"], index_where=TeacherRequest.status == TeacherRequestStatus.PENDING
        )
        .returning(TeacherRequest.id)
    )
    if request_id is not None:
        await emit(session, TeacherRequested(user_id=user_id), key=str(request_id))
    return False


async def teacher_requests(
    session: AsyncSession, *, status: TeacherRequestStatus, after: tuple[UUID] | None, limit: int
) -> Sequence[tuple[TeacherRequest, User]]:
    """Requests of that status with who made them, oldest first; up to `limit` + 1 rows."""
    query = (
        select(TeacherRequest, User)
        .join(User, User.id == TeacherRequest.user_id)
        .where(TeacherRequest.status == status)
    )
    rows = await session.execute(keyset(query, TeacherRequest.id, after=after, limit=limit, newest_first=False))
    return [(request, user) for request, user in rows]


async def decide_teacher_request(
    session: AsyncSession, request_id: UUID, *, approve: bool, by: UUID, now: datetime
) -> TeacherRequest:
    """Approves or rejects a pending request. Raises `NotFound`, or `AlreadyDecided` when it is not pending."""
    request = await session.get(TeacherRequest, request_id, with_for_update=True)
    if request is None:
        raise NotFound("There is no such request.")
    if request.status != TeacherRequestStatus.PENDING:
        raise AlreadyDecided(f"The request was {request.status} before.")
    request.status = TeacherRequestStatus.APPROVED if approve else TeacherRequestStatus.REJECTED
    request.decided_at, request.decided_by = now, by
    if approve:
        await grant_role(session, request.user_id, Role.TEACHER)
    else:
        await emit(session, TeacherRejected(user_id=request.user_id), key=str(request.id))
    return request
