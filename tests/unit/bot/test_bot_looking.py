"""Looks at once when told, sometimes unasked, and never most of the time."""

from __future__ import annotations

import asyncio

from botctl.bot.receiving.looking import Looking
from botctl.bot.tasks import end


async def test_it_looks_when_told_and_by_itself() -> None:
    looks = 0
    seen = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        seen.set()

    quiet = Looking(look, lambda: 0.0, every=60.0)
    run = asyncio.create_task(quiet.run())
    for _ in range(2):
        quiet.wake()
        async with asyncio.timeout(5):
            await seen.wait()
        seen.clear()
    await end([run])
    assert looks == 2
    run = asyncio.create_task(Looking(look, lambda: 0.0, every=0.001).run())
    async with asyncio.timeout(5):
        await seen.wait()
    await end([run])


async def test_a_dear_look_is_not_repeated_at_once_and_a_wake_meanwhile_is_not_lost() -> None:
    began: list[float] = []
    loop = asyncio.get_running_loop()
    clock = 0.0

    async def look() -> None:
        nonlocal clock
        clock += 0.005
        began.append(loop.time())
        if len(began) == 1:
            looking.wake()

    looking = Looking(look, lambda: clock, every=30.0)
    run = asyncio.create_task(looking.run())
    looking.wake()
    async with asyncio.timeout(5):
        while len(began) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await end([run])
    assert began[1] - began[0] >= 0.044


async def test_a_look_that_fails_comes_again_soon_though_nobody_tells_it_to() -> None:
    looks = 0
    seen = asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("unexpected")
        seen.set()

    looking = Looking(look, lambda: 0.0, every=60.0, after_fault=0.0)
    looking.wake()
    run = asyncio.create_task(looking.run())
    async with asyncio.timeout(5):
        await seen.wait()
    await end([run])
    assert looks == 2
