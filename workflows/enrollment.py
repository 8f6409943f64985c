"""Enrollment: one student's time in one course, until it is withdrawn, revoked, completed or runs out."""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.shared.policies import DB
from workflows.shared.process import RECHECK, Process

with workflow.unsafe.imports_passed_through():
    from activities.enrollments import EnrollmentActivities
    from domain.contracts.processes import EndEnrollment, EnrollmentState, ProcessInput
    from domain.enrollments import EnrollmentEnded, EnrollmentStatus


@workflow.defn(name="Enrollment")
class EnrollmentWorkflow(Process):
    kind = "enrollment"

    @workflow.init
    def __init__(self, input: ProcessInput) -> None:
        super().__init__(input)
        self._enrollment: EnrollmentState | None = None
        self._withdraw = False

    @workflow.update(name="withdraw")
    async def withdraw(self) -> EnrollmentState:
        """The student leaves; answers what became of the enrollment."""
        self._withdraw = True
        await self._answered(lambda: self._ended)
        return self._known

    @withdraw.validator
    def _may_withdraw(self) -> None:
        if self._ended:
            raise ApplicationError("The enrollment has ended.", type=EnrollmentEnded.__name__)

    @property
    def _known(self) -> EnrollmentState:
        if self._enrollment is None:
            raise RuntimeError("the enrollment has not been read yet")
        return self._enrollment

    @property
    def _ended(self) -> bool:
        return self._enrollment is not None and self._enrollment.status != EnrollmentStatus.ACTIVE

    @workflow.run
    async def run(self, input: ProcessInput) -> EnrollmentState:
        self._enrollment = await self._quick_step(EnrollmentActivities.read, self._subject, DB, "read the enrollment")
        while not self._ended:
            await self._study()
            self._continue_if_long()
        self._show(self._known.status, "nothing")
        await self._finish()
        return self._known

    async def _study(self) -> None:
        last_day = self._known.expires_at
        until = last_day or workflow.now() + RECHECK
        self._show(EnrollmentStatus.ACTIVE, "the student", until, "end access" if last_day else "look again")
        woken = await self._wait(until, "end of access" if last_day else "look again", wakes=lambda: self._withdraw)
        self._poked = False
        if self._withdraw:
            await self._end(EnrollmentStatus.WITHDRAWN)
            return
        await self._read()  # the last day may have moved while we slept
        expires_at = self._known.expires_at
        if not woken and not self._ended and expires_at is not None and expires_at <= workflow.now():
            await self._end(EnrollmentStatus.EXPIRED)

    async def _read(self) -> None:
        self._enrollment = await self._step(EnrollmentActivities.read, self._subject, DB, "read the enrollment")

    async def _end(self, status: EnrollmentStatus) -> None:
        self._enrollment = await self._step(
            EnrollmentActivities.end,
            lambda: EndEnrollment(enrollment_id=self._input.subject_id, status=status, now=workflow.now()),
            DB,
            f"end the enrollment: {status}",
        )
