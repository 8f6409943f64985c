"""Signed-in users without the ceremony: rows and a token, as register, verify and login would leave them."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import insert

from core import clock
from core.db import Database
from core.ids import new_id
from core.security.tokens import Tokens
from domain.identity import Role
from models.identity import User, UserRole
from services import identity

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Account:
    user_id: UUID
    session_id: UUID
    email: str
    refresh_token: str
    headers: dict[str, str]


async def sign_in(db: Database, tokens: Tokens, *roles: Role, name: str = "Ada Lovelace") -> Account:
    """A verified user with these roles (student when none is given), in a session of an hour."""
    user_id = new_id()
    email = f"user-{user_id.hex}@example.com"
    async with db.transaction() as session:
        await session.execute(
            insert(User).values(
                id=user_id, email=email, name=name, password_hash="unusable", email_verified_at=clock.now()
            )
        )
        for role in roles or (Role.STUDENT,):
            await session.execute(insert(UserRole).values(user_id=user_id, role=role))
    opened = await identity.open_session(db, user_id, now=clock.now(), ttl=timedelta(hours=1))
    token = tokens.access(user_id, opened.session_id)
    return Account(user_id, opened.session_id, email, opened.refresh_token, {"Authorization": f"Bearer {token}"})
