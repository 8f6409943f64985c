"""Who may do what: the permission catalogue, the roles that grant it, and the rules of accounts."""

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from domain.errors import Conflict, DomainError, FieldError, Forbidden, Invalid, Kind
from domain.texts import one_line

PASSWORD_MIN = 8
PASSWORD_MAX = 256
NAME_MAX = 100
EMAIL_MAX = 254
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
EMAIL_PATTERN = rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}$"
"""ASCII addresses with a dotted domain; nothing that could end a header or hide a second address."""


class Permission(StrEnum):
    """What a route or a use-case asks for. Whose object it is, is the use-case's own question."""

    ACCOUNT_READ = "account.read"
    ACCOUNT_TEACH = "account.teach"
    COURSE_AUTHOR = "course.author"
    COURSE_MANAGE = "course.manage"
    COURSE_STUDY = "course.study"
    COURSE_ENROLL = "course.enroll"
    UPLOAD_CREATE = "upload.create"
    ORDER_PLACE = "order.place"
    ORDER_READ = "order.read"
    ENROLLMENT_READ = "enrollment.read"
    NOTIFICATION_READ = "notification.read"
    TEACHER_GRANT = "teacher.grant"
    PROCESS_READ = "process.read"
    PROCESS_ACT = "process.act"
    FINANCE_READ = "finance.read"


class Role(StrEnum):
    STUDENT = "student"
    TEACHER = "teacher"
    ADMIN = "admin"


class TeacherRequestStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


_STUDENT = frozenset(
    {
        Permission.ACCOUNT_READ,
        Permission.ACCOUNT_TEACH,
        Permission.COURSE_STUDY,
        Permission.COURSE_ENROLL,
        Permission.ORDER_PLACE,
        Permission.ORDER_READ,
        Permission.ENROLLMENT_READ,
        Permission.NOTIFICATION_READ,
    }
)

ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.STUDENT: _STUDENT,
    Role.TEACHER: frozenset(
        {
            Permission.ACCOUNT_READ,
            Permission.COURSE_AUTHOR,
            Permission.COURSE_STUDY,
            Permission.UPLOAD_CREATE,
            Permission.NOTIFICATION_READ,
        }
    ),
    Role.ADMIN: frozenset(Permission),
}


def permissions_of(roles: Iterable[Role]) -> frozenset[Permission]:
    """The union of what the roles grant."""
    return frozenset().union(*(ROLE_PERMISSIONS[role] for role in roles))


@dataclass(frozen=True, slots=True)
class Principal:
    """The signed-in user of one request: who, in which session, allowed what at this moment."""

    user_id: UUID
    session_id: UUID
    roles: frozenset[Role]
    permissions: frozenset[Permission]

    @classmethod
    def of(cls, user_id: UUID, session_id: UUID, roles: Iterable[Role]) -> "Principal":
        """The principal with what `roles` grant."""
        granted = frozenset(roles)
        return cls(user_id, session_id, granted, permissions_of(granted))

    def can(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raises `PermissionDenied` unless the principal has `permission`."""
        if not self.can(permission):
            raise PermissionDenied(f"This needs the permission {permission}.")


class Unauthenticated(DomainError):
    """No access token, or one that is not good (any more)."""

    kind = Kind.UNAUTHENTICATED
    title = "Sign in first"


class InvalidCredentials(DomainError):
    """The address and the password do not belong together, or the address is not confirmed; which is not told."""

    kind = Kind.UNAUTHENTICATED
    title = "Wrong e-mail address or password"


class InvalidRefreshToken(DomainError):
    """The refresh token is unknown, expired or was used before."""

    kind = Kind.UNAUTHENTICATED
    title = "The session has ended"


class PermissionDenied(Forbidden):
    title = "Not allowed"


class TooManyAttempts(DomainError):
    kind = Kind.TOO_MANY
    title = "Too many attempts"


class InvalidToken(Invalid):
    """An e-mailed token is unknown, used, expired or meant for something else."""

    title = "The link is not valid any more"


class WeakPassword(Invalid):
    title = "The password is too easy to guess"


class AlreadyDecided(Conflict):
    title = "The request was decided before"


def normalize_email(email: str) -> str:
    """The form an address is stored and compared in: trimmed, lower case."""
    return email.strip().lower()


def check_email(email: str) -> None:
    """Raises `Invalid` unless it looks like an address."""
    if len(email) > EMAIL_MAX or not re.fullmatch(EMAIL_PATTERN, email):
        raise Invalid("This is no e-mail address.", errors=[FieldError("email", "not an e-mail address", "email")])


def normalize_name(name: str) -> str:
    """The name as one line (it ends up in mail headers and logs); raises `Invalid` when nothing is left."""
    visible = one_line(name)
    if not visible:
        raise Invalid("A name is needed.", errors=[FieldError("name", "A name is needed.", "empty")])
    return visible


def check_password(password: str, *, email: str, name: str, common: Container[str]) -> None:
    """Raises `WeakPassword` unless the password is 8 to 256 characters, not `common` and not the account's own words.

    No composition rules and no trimming: a pass phrase counts as it was typed.
    """
    lowered = password.lower()
    own = {email, email.partition("@")[0], name.lower(), name.lower().replace(" ", "")}
    if len(password) < PASSWORD_MIN:
        problem = ("too_short", f"Use at least {PASSWORD_MIN} characters.")
    elif len(password) > PASSWORD_MAX:
        problem = ("too_long", f"Use at most {PASSWORD_MAX} characters.")
    elif lowered in common or len(set(lowered)) == 1:
        problem = ("too_common", "This password is among the most used ones; choose another.")
    elif lowered in own:
        problem = ("too_personal", "Do not use your name or your e-mail address as the password.")
    else:
        return
    raise WeakPassword(problem[1], errors=[FieldError("password", problem[1], problem[0])])
