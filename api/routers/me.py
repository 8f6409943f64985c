"""The signed-in user's own account."""

from typing import Annotated

from fastapi import APIRouter, Response

from api.deps import Container, ReadTx, requires
from api.schemas.me import MeRead, TeacherStatus
from domain.identity import Permission, Principal
from services import identity

router = APIRouter(prefix="/me", tags=["me"])


@router.get("")
async def read_me(session: ReadTx, principal: Annotated[Principal, requires(Permission.ACCOUNT_READ)]) -> MeRead:
    """Who I am and what I may do."""
    user = await identity.profile(session, principal.user_id)
    return MeRead(
        id=user.id,
        email=user.email,
        name=user.name,
        roles=sorted(principal.roles),
        permissions=sorted(principal.permissions),
        email_verified=user.email_verified_at is not None,
    )


@router.post("/teacher", responses={202: {"model": TeacherStatus, "description": "An administrator has to decide"}})
async def teach(
    response: Response, container: Container, principal: Annotated[Principal, requires(Permission.ACCOUNT_TEACH)]
) -> TeacherStatus:
    """Asks to teach. Granted at once, unless the platform reviews such requests. Asking again changes nothing."""
    async with container.db.transaction() as session:
        granted = await identity.request_to_teach(
            session, principal.user_id, review=container.settings.platform.teacher_review
        )
        sessions = await identity.live_sessions(session, principal.user_id)
    if not granted:
        response.status_code = 202
        return TeacherStatus(status="pending")
    await container.access.forget(sessions)
    return TeacherStatus(status="granted")
