"""The first administrator: an account made by whoever runs the platform, without the mail."""

import asyncio
from uuid import UUID

import typer
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core import cache, clock
from core.db import Database
from core.ids import new_id
from core.security.passwords import Passwords, common_passwords
from core.settings import Settings, get_settings
from domain.errors import DomainError
from domain.identity import Role, check_email, check_password, normalize_email, normalize_name
from models.identity import User
from services.access import Access
from services.identity import grant_role, live_sessions


async def ensure_admin(session: AsyncSession, *, email: str, name: str, password_hash: str) -> tuple[UUID, bool]:
    """Makes the account of `email` an administrator, creating it (verified) where there is none.

    Returns its id and whether name and password were taken: an account in use keeps its own.
    """
    user = await session.scalar(select(User).where(User.email == email).with_for_update())
    user_id = new_id() if user is None else user.id
    taken = user is None or user.email_verified_at is None
    if user is None:
        await session.execute(
            insert(User).values(
                id=user_id, email=email, name=name, password_hash=password_hash, email_verified_at=clock.now()
            )
        )
    elif taken:
        # Whoever registered an address nobody has confirmed must not become an administrator with their password.
        user.name, user.password_hash, user.email_verified_at = name, password_hash, clock.now()
    await grant_role(session, user_id, Role.ADMIN)
    return user_id, taken


def create(email: str, name: str, password: str) -> None:
    """`lyceum admin create`: exits with status 1 and the reason when address or password will not do."""
    try:
        email, name = normalize_email(email), normalize_name(name)
        check_email(email)
        check_password(password, email=email, name=name, common=common_passwords())
    except DomainError as error:
        typer.echo(f"{error.title}: {error.detail}", err=True)
        raise typer.Exit(1) from None
    taken = asyncio.run(_create(get_settings(), email, name, password))
    typer.echo(f"{email} is an administrator" + ("." if taken else " now; its name and password stay as they were."))


async def _create(settings: Settings, email: str, name: str, password: str) -> bool:
    db = Database(settings.database, application_name="lyceum-admin")
    redis = cache.connect(settings.redis)
    try:
        password_hash = await Passwords(settings.auth).hash(password)
        async with db.transaction() as session:
            user_id, taken = await ensure_admin(session, email=email, name=name, password_hash=password_hash)
            sessions = await live_sessions(session, user_id)
        await Access(db, redis, settings.redis.prefix).forget(sessions)
        return taken
    finally:
        await redis.aclose()
        await db.dispose()
