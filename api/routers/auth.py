"""Accounts and sessions: register, verify the address, log in, refresh, log out."""

import asyncio
from datetime import timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Annotated

from fastapi import APIRouter, Request, Response

from api.container import AppContainer
from api.deps import Container, Tx, public, requires
from api.openapi import refusing
from api.schemas.auth import EmailVerification, Login, Refresh, Register, Registered, TokenPair, VerifyEmail
from core import clock, logs
from core.security.passwords import common_passwords
from core.security.throttle import Limit
from core.security.tokens import VERIFY_EMAIL
from domain.identity import (
    InvalidCredentials,
    InvalidRefreshToken,
    Permission,
    Principal,
    TooManyAttempts,
    check_password,
    normalize_email,
    normalize_name,
)
from services import identity
from services.identity import Credentials, OpenSession, Reuse

router = APIRouter(prefix="/auth", tags=["auth"])

log = logs.get_logger(__name__)

_HOUR = 3600
_MAILS = Limit("register-address", 5, _HOUR)
_REGISTRATIONS = Limit("register-origin", 1000, _HOUR)
_MANY = 10
"""An origin may fail this many times as often as one address from it, because many people share one. An address may,
in an hour, from all the origins it is not used from; those it is used from cannot be locked out by others."""


def _origin(request: Request) -> str:
    """Who attempts are counted for: the client's address, of IPv6 the network that one customer gets."""
    host = request.client.host if request.client else "unknown"
    try:
        address = ip_address(host)
    except ValueError:  # whatever a proxy calls it
        return host
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))


@router.post("/register", status_code=201, dependencies=[public])
async def register(body: Register, request: Request, container: Container) -> Registered:
    """Opens an account and mails a link that verifies the address."""
    email, name = normalize_email(body.email), normalize_name(body.name)
    check_password(body.password, email=email, name=name, common=common_passwords())
    for limit, key in ((_REGISTRATIONS, _origin(request)), (_MAILS, email)):
        if not await container.throttle.hit(limit, key):
            raise TooManyAttempts("Try again later.", retry_after=limit.window)
    password_hash = await container.passwords.hash(body.password)
    async with container.db.transaction() as session:
        await identity.register(
            session,
            email=email,
            name=name,
            password_hash=password_hash,
            now=clock.now(),
            ttl=timedelta(seconds=container.settings.auth.verification_ttl),
        )
    return Registered(email=email)


@router.post("/verify-email", dependencies=[public])
async def verify_email(body: VerifyEmail, container: Container, session: Tx) -> EmailVerification:
    """Takes the token of the mailed link."""
    claims = container.tokens.read_email(VERIFY_EMAIL, body.token)
    return EmailVerification(email=await identity.verify_email(session, claims, now=clock.now()))


@router.post("/login", dependencies=[public], responses=refusing(401))
async def login(body: Login, request: Request, container: Container) -> TokenPair:
    """Starts a session."""
    auth, throttle = container.settings.auth, container.throttle
    email, origin = normalize_email(body.email), _origin(request)
    used_from = (Limit("login-used-from", 1, auth.refresh_ttl), email, origin)
    counted: list[tuple[Limit, *tuple[str, ...]]] = [
        (Limit("login-pair", auth.login_attempts, auth.login_window), email, origin),
        (Limit("login-origin", auth.login_attempts * _MANY, auth.login_window), origin),
    ]
    stranger = await throttle.allows(*used_from)
    if stranger:
        counted.append((Limit("login-address", auth.login_attempts * _MANY, _HOUR), email))
    for limit, *key in counted:
        if not await throttle.hit(limit, *key):
            raise TooManyAttempts("Too many failed attempts. Try again later.", retry_after=limit.window)
    known = await _check_password(container, email, body.password)
    if known is None:
        raise InvalidCredentials(
            "The address or the password is wrong, or the address is not confirmed yet: open the link in our mail."
        )
    await asyncio.gather(*(throttle.forgive(limit, *key) for limit, *key in counted))
    if stranger:
        await throttle.hit(*used_from)
    opened = await identity.open_session(
        container.db, known.user_id, now=clock.now(), ttl=timedelta(seconds=auth.refresh_ttl)
    )
    log.info("signed in", user_id=str(opened.user_id), session_id=str(opened.session_id))
    return _pair(container, opened)


async def _check_password(container: AppContainer, email: str, password: str) -> Credentials | None:
    """The account, when it may sign in and the password is its own. Takes as long when not."""
    known = await identity.credentials(container.db, email)
    matches, rehashed = await container.passwords.verify(password, known.password_hash if known else None)
    if known is None or not matches or not known.may_sign_in:
        return None
    if rehashed is not None:
        async with container.db.transaction() as session:
            await identity.replace_hash(session, known.user_id, old=known.password_hash, new=rehashed)
    return known


@router.post("/refresh", dependencies=[public], responses=refusing(401))
async def refresh(body: Refresh, container: Container) -> TokenPair:
    """Exchanges a refresh token for a new pair. Using one twice ends the session for both users of it."""
    async with container.db.transaction() as session:
        outcome = await identity.refresh(session, body.refresh_token, now=clock.now())
    if isinstance(outcome, OpenSession):
        return _pair(container, outcome)
    if isinstance(outcome, Reuse):
        await container.access.forget([outcome.session_id])
        log.warning("refresh token reused", session_id=str(outcome.session_id))
    raise InvalidRefreshToken("Sign in again.")


@router.post("/logout", status_code=204)
async def logout(
    response: Response, container: Container, principal: Annotated[Principal, requires(Permission.ACCOUNT_READ)]
) -> None:
    """Ends the session: its access token stops working at once, its refresh token too."""
    async with container.db.transaction() as session:
        await identity.end_session(session, principal.session_id, now=clock.now())
    await container.access.forget([principal.session_id])
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    log.info("signed out", session_id=str(principal.session_id))


def _pair(container: AppContainer, opened: OpenSession) -> TokenPair:
    return TokenPair(
        access_token=container.tokens.access(opened.user_id, opened.session_id),
        refresh_token=opened.refresh_token,
        expires_in=container.settings.auth.access_ttl,
    )
