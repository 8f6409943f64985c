"""Operators' view of running processes, and their word to a stuck one."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path

from api.deps import Container, ReadTx, requires
from api.pagination import Page, Paging, cut_page
from api.schemas.admin_processes import ProcessRead, RetryRead
from core import clock
from core.ids import new_id
from domain.errors import DomainError
from domain.identity import Permission, Principal
from services import processes

router = APIRouter(prefix="/admin/processes", tags=["admin"])

ProcessId = Annotated[str, Path(max_length=100, pattern=r"^[a-z-]+-[0-9a-f-]{36}$")]


@router.get("", dependencies=[requires(Permission.PROCESS_READ)])
async def list_processes(session: ReadTx, paging: Paging, stuck: bool = False) -> Page[ProcessRead]:
    """Processes that have not ended, latest change first; `stuck=true`: those whose step keeps failing."""
    rows = await processes.page(session, stuck=stuck, after=paging.after(datetime, str), limit=paging.limit)
    shown, cursor = cut_page(rows, paging.limit, lambda row: (row.updated_at, row.id))
    return Page(items=[ProcessRead.model_validate(row) for row in shown], next_cursor=cursor)


@router.post("/{process_id}/retry")
async def retry_process(
    process_id: ProcessId, container: Container, principal: Annotated[Principal, requires(Permission.PROCESS_ACT)]
) -> RetryRead:
    """Tries a stuck step again now. Every call is audited, whatever its outcome."""
    async with container.db.read() as session:
        process = await processes.get(session, process_id)
    outcome = "refused"
    try:
        doing = await container.gateway.retry(process.kind, process.subject_id, update_id=f"retry-{new_id()}")
        outcome = "accepted"
    except DomainError as error:
        outcome = error.code
        raise
    finally:
        async with container.db.transaction() as session:
            await processes.audit(
                session, process, action="retry", actor_id=principal.user_id, outcome=outcome, now=clock.now()
            )
    return RetryRead(process=process_id, doing=doing)
