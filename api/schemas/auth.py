"""Registration, verification and sessions."""

from typing import Annotated, Literal

from pydantic import Field

from api.schemas.base import RequestModel, ResponseModel
from domain.identity import EMAIL_MAX, EMAIL_PATTERN, NAME_MAX, PASSWORD_MAX, PASSWORD_MIN

Email = Annotated[str, Field(max_length=EMAIL_MAX, pattern=EMAIL_PATTERN, examples=["ada@example.com"])]
Token = Annotated[str, Field(min_length=1, max_length=2048)]


class Register(RequestModel):
    email: Email
    password: str = Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)
    name: str = Field(min_length=1, max_length=NAME_MAX)


class Registered(ResponseModel):
    """The same whether the address was free or not: a mail tells its owner."""

    email: str
    status: Literal["verification_sent"] = "verification_sent"


class VerifyEmail(RequestModel):
    token: Token


class EmailVerification(ResponseModel):
    email: str
    email_verified: Literal[True] = True


class Login(RequestModel):
    email: Email
    password: str = Field(min_length=1, max_length=PASSWORD_MAX)


class Refresh(RequestModel):
    refresh_token: Token


class TokenPair(ResponseModel):
    """`expires_in` is the access token's life in seconds. A refresh token works once."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
