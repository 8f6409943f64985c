"""The operators' projection of processes: what each waits for, which are stuck, and who acted on them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from prometheus_client import Gauge
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.contracts.processes import Stuck
from domain.processes import ProcessNotFound
from models.process import Process, ProcessAction
from services import refunds, timeline
from services.paging import keyset

STUCK = Gauge("lyceum_processes_stuck", "Processes whose current step has failed for too long", ["kind"])

_NOTE = text(
    """
    insert into processes (id, kind, subject_id, state, waiting_for, waiting_since, next_step, next_at, ended_at)
    values (:id, :kind, :subject_id, :state, :waiting_for, :waiting_since, :next_step, :next_at, :ended_at)
    on conflict (id) do update
      set state = excluded.state, waiting_for = excluded.waiting_for, waiting_since = excluded.waiting_since,
          next_step = excluded.next_step, next_at = excluded.next_at, ended_at = excluded.ended_at, updated_at = now()
    """
)


async def note(
    session: AsyncSession,
    process_id: str,
    kind: str,
    subject_id: UUID,
    *,
    state: str,
    now: datetime,
    waiting_for: str | None = None,
    next_step: str | None = None,
    next_at: datetime | None = None,
) -> None:
    """What the process does now. Waiting for nothing means it has ended."""
    await session.execute(
        _NOTE,
        {
            "id": process_id,
            "kind": kind,
            "subject_id": subject_id,
            "state": state,
            "waiting_for": waiting_for,
            "waiting_since": now if waiting_for else None,
            "next_step": next_step,
            "next_at": next_at,
            "ended_at": None if waiting_for else now,
        },
    )


async def observe_stuck(session: AsyncSession) -> None:
    """Sets the gauge."""
    stuck = select(Process.kind, func.count()).where(Process.stuck_since.is_not(None)).group_by(Process.kind)
    counts = await session.execute(stuck)
    STUCK.clear()
    for kind, count in counts:
        STUCK.labels(kind).set(count)


async def mark_stuck(session: AsyncSession, stuck: Stuck) -> None:
    """Shows that a step keeps failing, to operators and, on the subject's timeline, to the person concerned."""
    next_step = "try again" if stuck.next_at else "our staff decides"
    row = {
        "waiting_for": stuck.step,
        "last_error": stuck.error,
        "stuck_since": stuck.since,
        "next_step": next_step,
        "next_at": stuck.next_at,
        "ended_at": None,
        "updated_at": func.now(),
    }
    await session.execute(
        insert(Process)
        .values(
            id=stuck.process_id,
            kind=stuck.kind,
            subject_id=stuck.subject_id,
            state="stuck",
            waiting_since=stuck.since,
            **row,
        )
        .on_conflict_do_update(index_elements=[Process.id], set_=row)
    )
    await timeline.record(
        session,
        await _told_on(session, stuck.kind, stuck.subject_id),
        "process.stuck",
        stuck.since,
        key=f"stuck:{stuck.process_id}:{stuck.step}:{stuck.since.isoformat()}",
        next_step=next_step,
        next_at=stuck.next_at,
        step=stuck.step,
    )


async def mark_recovered(session: AsyncSession, stuck: Stuck, now: datetime) -> None:
    """The failing step went through."""
    await session.execute(
        update(Process)
        .where(Process.id == stuck.process_id)
        .values(stuck_since=None, last_error=None, updated_at=func.now())
    )
    await timeline.record(
        session,
        await _told_on(session, stuck.kind, stuck.subject_id),
        "process.recovered",
        now,
        key=f"recovered:{stuck.process_id}:{stuck.step}:{stuck.since.isoformat()}",
    )


async def _told_on(session: AsyncSession, kind: str, subject_id: UUID) -> tuple[str, UUID]:
    """The subject whose timeline tells of the process; a refund is told on its order's."""
    if kind == "refund":
        return "order", (await refunds.get(session, subject_id)).order_id
    return kind, subject_id


async def page(
    session: AsyncSession, *, stuck: bool, after: tuple[datetime, str] | None, limit: int
) -> Sequence[Process]:
    """Processes that have not ended, latest change first; with `stuck` only those. Up to `limit` + 1 rows."""
    query = select(Process).where(Process.ended_at.is_(None))
    if stuck:
        query = query.where(Process.stuck_since.is_not(None))
    return (await session.scalars(keyset(query, Process.updated_at, Process.id, after=after, limit=limit))).all()


async def get(session: AsyncSession, process_id: str) -> Process:
    """Raises `ProcessNotFound`."""
    process = await session.get(Process, process_id)
    if process is None:
        raise ProcessNotFound(f"There is no process {process_id!r}.")
    return process


async def audit(
    session: AsyncSession, process: Process, *, action: str, actor_id: UUID, outcome: str, now: datetime
) -> None:
    """Records what an operator did, for auditors and on the subject's timeline."""
    session.add(ProcessAction(process_id=process.id, action=action, actor_id=actor_id, outcome=outcome))
    await timeline.record(
        session,
        await _told_on(session, process.kind, process.subject_id),
        "process.retried",
        now,
        key=f"{action}:{process.id}:{now.isoformat()}",
        actor="admin",
        actor_id=actor_id,
    )
