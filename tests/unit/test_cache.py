import pytest

from core.cache import Breaker, Recent


async def test_after_a_failure_commands_are_not_even_tried_until_the_cooldown_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, calls, broken = 1000.0, 0, True
    monkeypatch.setattr("core.cache.time.monotonic", lambda: clock)

    async def command() -> str:
        nonlocal calls
        calls += 1
        if broken:
            raise ConnectionError
        return "value"

    breaker = Breaker(cooldown=5)
    assert [await breaker.run(command, otherwise=None) for _ in range(3)] == [None, None, None]
    assert calls == 1
    clock += 5
    assert await breaker.run(command, otherwise=None) is None
    assert calls == 2
    broken = False
    clock += 4.9
    assert await breaker.run(command, otherwise=None) is None
    clock += 0.2
    assert await breaker.run(command, otherwise=None) == "value"


async def test_a_mistake_of_our_own_is_not_taken_for_an_absent_cache() -> None:
    async def command() -> None:
        raise TypeError

    with pytest.raises(TypeError):
        await Breaker(cooldown=5).run(command, otherwise=None)


def test_an_entry_is_given_again_while_it_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr("core.cache.time.monotonic", lambda: clock)
    recent = Recent(size=2, ttl=2)
    assert recent.get("a") is None
    recent.put("a", b"1")
    clock += 1.9
    assert recent.get("a") == b"1"
    clock += 0.1
    assert recent.get("a") is None


def test_the_oldest_entry_makes_room() -> None:
    recent = Recent(size=2, ttl=60)
    for key in ("a", "b", "a", "c"):
        recent.put(key, key.encode())
    assert [recent.get(key) for key in ("a", "b", "c")] == [b"a", None, b"c"]
