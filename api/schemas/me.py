"""The signed-in user's own account."""

from typing import Literal
from uuid import UUID

from api.schemas.base import ResponseModel
from domain.identity import Permission, Role


class MeRead(ResponseModel):
    id: UUID
    email: str
    name: str
    roles: list[Role]
    permissions: list[Permission]
    email_verified: bool


class TeacherStatus(ResponseModel):
    """`pending`: an administrator has to decide."""

    status: Literal["granted", "pending"]
