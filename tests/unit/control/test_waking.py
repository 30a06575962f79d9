"""A bot is woken at once, and however often it is asked for, no more than once in a while."""

from __future__ import annotations

import asyncio

from botctl.control.waking import Waker


async def test_many_wakes_are_two_messages_the_first_at_once_and_the_last_not_lost() -> None:
    told: list[int] = []
    waker = Waker(told.append, closest=0.01)
    for _ in range(100):
        waker.wake(7)
    waker.wake(8)
    assert told == [7, 8]
    async with asyncio.timeout(5):
        while told != [7, 8, 7]:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        while waker._resting:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    waker.wake(7)
    assert told == [7, 8, 7, 7]
