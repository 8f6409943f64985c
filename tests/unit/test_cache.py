import pytest

from core.cache import Breaker


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
