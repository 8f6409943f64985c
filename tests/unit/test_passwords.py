import asyncio
import time

import pytest

from core.security.passwords import Passwords, common_passwords
from core.settings import AuthSettings
from domain.identity import WeakPassword, check_password

WEAK = AuthSettings(argon2_memory=64, argon2_time=1, argon2_concurrency=2)


async def test_a_hash_is_argon2id_with_the_configured_cost_and_a_fresh_salt() -> None:
    passwords = Passwords(WEAK)
    one, two = [await passwords.hash("pass phrase") for _ in range(2)]
    assert one.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert one != two


async def test_only_the_exact_password_matches() -> None:
    passwords = Passwords(WEAK)
    stored = await passwords.hash("Pass phrase ")
    assert await passwords.verify("Pass phrase ", stored) == (True, None)
    for other in ("pass phrase ", "Pass phrase", "Pass phrase  ", ""):
        assert await passwords.verify(other, stored) == (False, None)


async def test_a_hash_of_another_cost_is_made_again() -> None:
    stored = await Passwords(WEAK).hash("pass phrase")
    dearer = Passwords(WEAK.model_copy(update={"argon2_memory": 128}))
    matches, stronger = await dearer.verify("pass phrase", stored)
    assert matches
    assert stronger is not None
    assert stronger.startswith("$argon2id$v=19$m=128,t=1,p=1$")
    assert await dearer.verify("pass phrase", stronger) == (True, None)
    assert await dearer.verify("wrong", stored) == (False, None)


@pytest.mark.parametrize("stored", [None, "", "unusable", "$2b$12$" + "x" * 53])
async def test_without_a_usable_hash_nothing_matches(stored: str | None) -> None:
    assert await Passwords(WEAK).verify("a password nobody has", stored) == (False, None)


async def test_an_unknown_account_takes_as_long_as_a_wrong_password() -> None:
    passwords = Passwords(AuthSettings(argon2_memory=8192, argon2_time=2, argon2_concurrency=1))
    stored = await passwords.hash("pass phrase")

    async def seconds(hash_: str | None) -> float:
        started = time.perf_counter()
        await passwords.verify("wrong", hash_)
        return time.perf_counter() - started

    # In turns, and the least of each: what else the machine does only adds to some of them.
    unknown, known = zip(*[(await seconds(None), await seconds(stored)) for _ in range(15)], strict=True)
    assert 0.5 < min(unknown) / min(known) < 2


async def test_the_event_loop_keeps_turning_while_hashing() -> None:
    passwords = Passwords(AuthSettings(argon2_memory=65536, argon2_time=3, argon2_concurrency=1))
    turns = 0
    hashing = asyncio.create_task(passwords.hash("pass phrase"))
    while not hashing.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 50


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("1234567", "too_short"),
        ("x" * 257, "too_long"),
        ("password1", "too_common"),
        ("PASSWORD1", "too_common"),
        ("qwertyuiop", "too_common"),
        ("........", "too_common"),
        ("ada@example.com", "too_personal"),
        ("AdaLovelace", "too_personal"),
        ("ada lovelace", "too_personal"),
    ],
)
def test_weak_passwords_are_refused_with_the_reason(password: str, code: str) -> None:
    with pytest.raises(WeakPassword) as refused:
        check_password(password, email="ada@example.com", name="Ada Lovelace", common=common_passwords())
    assert [(error.field, error.code) for error in refused.value.errors] == [("password", code)]


@pytest.mark.parametrize("password", ["correct horse", "x1" * 128, "ünïcödé-wörds", "        a", "nodigitsnocapitals"])
def test_anything_else_goes_without_rules_of_composition(password: str) -> None:
    check_password(password, email="ada@example.com", name="Ada Lovelace", common=common_passwords())


def test_the_list_of_common_passwords_holds_at_least_the_top_3000() -> None:
    assert len(common_passwords()) >= 3000
    assert all(len(word) >= 8 and word == word.lower() for word in common_passwords())
