"""Is this session alive, and what may its user do now? Answered from a cache, or from PostgreSQL without it."""

import json
from collections.abc import Iterable
from uuid import UUID

from redis.asyncio import Redis
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.cache import Cache
from core.db import Database
from domain.identity import Principal, Role
from models.identity import Session, User, UserRole

TTL = 30
"""Seconds. The longest a change stays unseen by a process that could not be told of it: Valkey was away just then."""


class Access:
    """Changes of a session or of its user's roles take effect with `forget`, at the next request."""

    def __init__(self, db: Database, redis: Redis, prefix: str) -> None:
        self._db = db
        self._cache = Cache(redis, prefix, "session", ttl=TTL)

    async def principal(self, user_id: UUID, session_id: UUID) -> Principal | None:
        """The caller with the roles of this moment; None when the session has ended or is not the user's."""
        known = await self._cache.get(str(session_id))
        if known is not None:
            owner, roles = json.loads(known)
            return _principal(user_id, session_id, UUID(owner), roles)
        async with self._db.read() as session:
            found = await _load(session, session_id)
        if found is None:
            return None
        await self._cache.fill(str(session_id), json.dumps([str(found[0]), found[1]]).encode())
        return _principal(user_id, session_id, *found)

    async def forget(self, session_ids: Iterable[UUID]) -> None:
        """To be called once a change of these sessions, or of their user's roles, is committed."""
        await self._cache.forget(*(str(session_id) for session_id in session_ids))


def _principal(user_id: UUID, session_id: UUID, owner: UUID, roles: list[str]) -> Principal | None:
    return Principal.of(owner, session_id, map(Role, roles)) if owner == user_id else None


async def _load(session: AsyncSession, session_id: UUID) -> tuple[UUID, list[str]] | None:
    roles = select(func.array_agg(UserRole.role)).where(UserRole.user_id == User.id).scalar_subquery()
    row = (
        await session.execute(
            select(User.id, roles)
            .join(Session, Session.user_id == User.id)
            .where(
                Session.id == session_id,
                Session.revoked_at.is_(None),
                Session.expires_at > func.now(),
                User.status == "active",
            )
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1] or [])
