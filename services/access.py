"""Is this session alive, and what may its user do now? Answered from a cache, or from PostgreSQL without it."""

import json
from collections.abc import Iterable
from uuid import UUID

from redis.asyncio import Redis

from core.cache import Cache
from core.db import Database
from domain.identity import Principal, Role

_LIVE = """
select users.id, array(select role from user_roles where user_roles.user_id = users.id) as roles
from sessions join users on users.id = sessions.user_id
where sessions.id = $1 and sessions.revoked_at is null and sessions.expires_at > now() and users.status = 'active'
"""

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
        found = await self._db.fetch_row(_LIVE, session_id)
        if found is None:
            return None
        await self._cache.fill(str(session_id), json.dumps([str(found["id"]), found["roles"]]).encode())
        return _principal(user_id, session_id, found["id"], found["roles"])

    async def forget(self, session_ids: Iterable[UUID]) -> None:
        """To be called once a change of these sessions, or of their user's roles, is committed."""
        await self._cache.forget(*(str(session_id) for session_id in session_ids))


def _principal(user_id: UUID, session_id: UUID, owner: UUID, roles: list[str]) -> Principal | None:
    return Principal.of(owner, session_id, map(Role, roles)) if owner == user_id else None
