import asyncio

from core import runtime


async def test_work_that_raises_is_reported_and_done_again_until_stop() -> None:
    stop = asyncio.Event()
    outcomes: list[object] = [LookupError("first"), None, OSError("third")]
    reported: list[Exception] = []

    async def work() -> None:
        outcome = outcomes.pop(0)
        if not outcomes:
            stop.set()
        if isinstance(outcome, Exception):
            raise outcome

    await runtime.every(0.001, stop, work, reported.append)

    assert outcomes == []
    assert [str(error) for error in reported] == ["first", "third"]


async def test_stop_ends_the_pause() -> None:
    stop, begun = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()

    async with asyncio.timeout(5):
        running = asyncio.create_task(runtime.every(3600, stop, work, lambda error: None))
        await begun.wait()
        stop.set()
        await running
