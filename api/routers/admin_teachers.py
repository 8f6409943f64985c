"""Administrators decide who teaches, where the platform reviews that."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter

from api.container import AppContainer
from api.deps import Container, ReadTx, requires
from api.pagination import Page, Paging, cut_page
from api.schemas.admin_teachers import TeacherDecision, TeacherRequestRead
from core import clock
from domain.identity import Permission, Principal, TeacherRequestStatus
from services import identity

router = APIRouter(prefix="/admin/teacher-requests", tags=["admin"])

Granter = Annotated[Principal, requires(Permission.TEACHER_GRANT)]


@router.get("")
async def list_requests(
    session: ReadTx, _: Granter, paging: Paging, status: TeacherRequestStatus = TeacherRequestStatus.PENDING
) -> Page[TeacherRequestRead]:
    """Requests to teach, oldest first."""
    found = await identity.teacher_requests(session, status=status, after=paging.after(UUID), limit=paging.limit)
    rows, next_cursor = cut_page(found, paging.limit, lambda row: (row[0].id,))
    items = [TeacherRequestRead.of(request, email=user.email, name=user.name) for request, user in rows]
    return Page(items=items, next_cursor=next_cursor)


@router.post("/{request_id}/approve")
async def approve(request_id: UUID, container: Container, principal: Granter) -> TeacherDecision:
    """Makes the user a teacher."""
    return await _decide(container, request_id, principal, approve=True)


@router.post("/{request_id}/reject")
async def reject(request_id: UUID, container: Container, principal: Granter) -> TeacherDecision:
    """Turns the request down; the user may ask again."""
    return await _decide(container, request_id, principal, approve=False)


async def _decide(container: AppContainer, request_id: UUID, by: Principal, *, approve: bool) -> TeacherDecision:
    async with container.db.transaction() as session:
        request = await identity.decide_teacher_request(
            session, request_id, approve=approve, by=by.user_id, now=clock.now()
        )
        sessions = await identity.live_sessions(session, request.user_id)
    await container.access.forget(sessions)
    return TeacherDecision.model_validate(request)
