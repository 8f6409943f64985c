"""Integration events: what RabbitMQ broadcasts and other processes may rely on.

An event's fields are the `data` of its CloudEvents envelope. They hold ids and small facts, never personal data. A
field added later has a default; a registered type never changes its meaning, it gets a new version.
"""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

EVENTS: dict[str, type["Event"]] = {}
"""Every event by its type, e.g. `order.paid.v1`."""


class Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    """`<noun>.<past_tense>.v1`; also the routing key."""
    subject_field: ClassVar[str]

    def __init_subclass__(cls, *, type: str | None = None, subject: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if type is not None and subject is not None:
            cls.type, cls.subject_field = type, subject
            EVENTS[type] = cls

    @property
    def subject(self) -> str:
        """`<noun>/<id>`: events of one subject keep their order."""
        return f"{self.subject_field.removesuffix('_id')}/{getattr(self, self.subject_field)}"


class UserRegistered(Event, type="user.registered.v1", subject="user_id"):
    """Somebody opened an account, or (`existing`) tried to with an address that has one."""

    user_id: UUID
    existing: bool = False


class VerificationRequested(Event, type="user.verification_requested.v1", subject="user_id"):
    user_id: UUID
    token_id: UUID


class EmailVerified(Event, type="user.email_verified.v1", subject="user_id"):
    user_id: UUID


class TeacherRequested(Event, type="teacher.requested.v1", subject="user_id"):
    user_id: UUID


class TeacherGranted(Event, type="teacher.granted.v1", subject="user_id"):
    user_id: UUID


class TeacherRejected(Event, type="teacher.rejected.v1", subject="user_id"):
    user_id: UUID


class CoursePublished(Event, type="course.published.v1", subject="course_id"):
    course_id: UUID


class CourseUpdated(Event, type="course.updated.v1", subject="course_id"):
    """Something of a published course changed."""

    course_id: UUID


class CourseUnpublished(Event, type="course.unpublished.v1", subject="course_id"):
    course_id: UUID


class UploadCompleted(Event, type="upload.completed.v1", subject="upload_id"):
    upload_id: UUID


class _OrderEvent(Event):
    order_id: UUID
    student_id: UUID


class OrderPlaced(_OrderEvent, type="order.placed.v1", subject="order_id"):
    """An order row exists; its process is started (again) by whoever hears of it first."""


class OrderPaid(_OrderEvent, type="order.paid.v1", subject="order_id"):
    """Money was captured, booked and every line granted."""


class OrderSettled(_OrderEvent, type="order.settled.v1", subject="order_id"):
    """Stripe's balance transaction is known: net and fee are booked."""


class OrderExpired(_OrderEvent, type="order.expired.v1", subject="order_id"):
    """It ended without buying anything; seats went back. The order's `closed_reason` says why."""


class OrderCanceled(_OrderEvent, type="order.canceled.v1", subject="order_id"):
    """The student gave the order up; seats went back."""


class _PaymentEvent(Event):
    payment_id: UUID
    refund_id: UUID
    order_id: UUID
    student_id: UUID
    reason: str


class PaymentUnapplied(_PaymentEvent, type="payment.unapplied.v1", subject="order_id"):
    """Money arrived that buys nothing (late, twice, wrong); it is parked and goes back by itself."""


class PaymentReturned(_PaymentEvent, type="payment.returned.v1", subject="order_id"):
    """Stripe took the parked money back to the student's card."""


class _EnrollmentEvent(Event):
    enrollment_id: UUID
    course_id: UUID
    student_id: UUID


class EnrollmentGranted(_EnrollmentEvent, type="enrollment.granted.v1", subject="enrollment_id"):
    """Access to a course began. `source` is `order`, `free` or `admin`."""

    source: str = "free"


class EnrollmentWithdrawn(_EnrollmentEvent, type="enrollment.withdrawn.v1", subject="enrollment_id"):
    """The student left the course."""


class EnrollmentRevoked(_EnrollmentEvent, type="enrollment.revoked.v1", subject="enrollment_id"):
    """The last grant of access ended."""
