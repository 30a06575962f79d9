"""Lanes are given back however a handling ends."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from botctl.bot.dispatcher import Dispatcher
from botctl.bot.handling import Handled
from botctl.bot.lanes import Lanes
from botctl.bot.tasks import end
from botctl.storage.inbox import InboxRow


class FakeIntake:
    wants_refill = False


def row(number: int) -> InboxRow:
    return InboxRow(number, f"update:{number}", "message", "chat:1", "{}", "t")


async def test_a_handling_that_cancels_itself_keeps_neither_lane_nor_slot() -> None:
    lanes, intake = Lanes(), FakeIntake()
    handled: list[str] = []
    both = asyncio.Event()
    seconds = count(1.0, 10.0)

    async def handle(row: InboxRow) -> Handled:
        handled.append(row.cause)
        if len(handled) == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        if row.inbox_id == 2:
            both.set()
        return Handled()

    async def deliver(parts: Any) -> None:
        pass

    a_fake: Any = intake
    dispatcher = Dispatcher(lanes, a_fake, handle, deliver, concurrent=1, now=lambda: next(seconds))
    lanes.add(row(1), 0.0)
    lanes.add(row(2), 0.0)
    run = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5):
        await both.wait()
    await end([run])
    assert handled == ["update:1", "update:1", "update:2"]
