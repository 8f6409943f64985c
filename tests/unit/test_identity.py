from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Invalid
from domain.identity import (
    ROLE_PERMISSIONS,
    Permission,
    PermissionDenied,
    Principal,
    Role,
    check_email,
    normalize_email,
    normalize_name,
    permissions_of,
)

P = Permission


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        (
            Role.STUDENT,
            {
                P.ACCOUNT_READ,
                P.ACCOUNT_TEACH,
                P.COURSE_STUDY,
                P.COURSE_ENROLL,
                P.ORDER_PLACE,
                P.ORDER_READ,
                P.ENROLLMENT_READ,
                P.NOTIFICATION_READ,
            },
        ),
        (Role.TEACHER, {P.ACCOUNT_READ, P.COURSE_AUTHOR, P.COURSE_STUDY, P.UPLOAD_CREATE, P.NOTIFICATION_READ}),
        (Role.ADMIN, set(Permission)),
    ],
)
def test_the_permission_matrix(role: Role, granted: set[Permission]) -> None:
    assert ROLE_PERMISSIONS[role] == granted


def test_only_administrators_manage_others_and_the_platform() -> None:
    reserved = {P.COURSE_MANAGE, P.TEACHER_GRANT, P.PROCESS_READ, P.PROCESS_ACT, P.FINANCE_READ}
    assert not permissions_of([Role.STUDENT, Role.TEACHER]) & reserved
    assert permissions_of([]) == frozenset()


@given(st.sets(st.sampled_from(Role)))
def test_roles_add_up(roles: set[Role]) -> None:
    principal = Principal.of(uuid4(), uuid4(), roles)
    for permission in Permission:
        expected = any(permission in ROLE_PERMISSIONS[role] for role in roles)
        assert principal.can(permission) is expected
        if expected:
            principal.require(permission)
        else:
            with pytest.raises(PermissionDenied):
                principal.require(permission)


@pytest.mark.parametrize(
    "email",
    ["a@b.co", "first.last+tag@sub.example.com", "o'brien@example.ie", "x_y-z@a-b.example", "A" * 64 + "@example.com"],
)
def test_addresses_people_have_are_accepted(email: str) -> None:
    check_email(email)


@pytest.mark.parametrize(
    "email",
    [
        "",
        "a",
        "a@b",
        "@b.co",
        "a@",
        "a b@c.co",
        "a@b..co",
        "a@-b.co",
        "a@b-.co",
        ".a@b.co",
        "a.@b.co",
        "a..b@c.co",
        "a@b.co\n",
        "a@b.co\r\nBcc: x@y.co",
        "a@b.co,c@d.co",
        "<a@b.co>",
        '"a"@b.co',
        "a@b.co ",
        "a\x00@b.co",
        "ä@b.co",
        "a@" + "b" * 64 + ".co",
        "a" * 250 + "@b.co",
    ],
)
def test_what_is_no_address_or_hides_a_second_one_is_refused(email: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_email(email)
    assert [error.field for error in refused.value.errors] == ["email"]


def test_addresses_are_compared_without_case() -> None:
    assert normalize_email(" Ada@Example.COM ") == "ada@example.com"


@given(st.text())
def test_a_name_becomes_one_printable_line(name: str) -> None:
    try:
        clean = normalize_name(name)
    except Invalid:
        assert not any(ch.isprintable() and not ch.isspace() for ch in name)
        return
    assert clean == clean.strip()
    assert clean.isprintable()
    assert "  " not in clean
    assert normalize_name(clean) == clean


def test_a_name_keeps_its_letters() -> None:
    assert normalize_name("  José\t\nÁlvarez\r\n de  Toledo ") == "José Álvarez de Toledo"
