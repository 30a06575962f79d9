"""Lanes are given back however a handling ends."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import structlog.testing

from botctl.bot.handling.attempt import Handled
from botctl.bot.handling.dispatcher import STUCK_AFTER, Dispatcher
from botctl.bot.live_limits import LiveLimits
from botctl.bot.receiving.lanes import Lanes
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
    dispatcher = Dispatcher(lanes, a_fake, handle, deliver, limits=LiveLimits(1, 5), now=lambda: next(seconds))
    lanes.add(row(1), 0.0)
    lanes.add(row(2), 0.0)
    run = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5):
        await both.wait()
    await end([run])
    assert handled == ["update:1", "update:1", "update:2"]


async def test_a_handling_that_does_not_end_is_told_once_with_its_stack() -> None:
    begun, forever = asyncio.Event(), asyncio.Event()
    seconds = 0.0

    async def deep_inside() -> None:
        begun.set()
        await forever.wait()

    async def handle(row: InboxRow) -> Handled:
        await deep_inside()
        return Handled()

    async def deliver(parts: Any) -> None:
        pass

    a_fake: Any = FakeIntake()
    lanes = Lanes()
    dispatcher = Dispatcher(lanes, a_fake, handle, deliver, limits=LiveLimits(1, 5), now=lambda: seconds)
    lanes.add(row(1), 0.0)
    run = asyncio.create_task(dispatcher.run())
    await begun.wait()
    assert dispatcher.stuck() == 0
    seconds = STUCK_AFTER
    with structlog.testing.capture_logs() as logs:
        assert dispatcher.stuck() == 1
        assert dispatcher.stuck() == 1
    (line,) = logs
    assert (line["cause"], line["lane"]) == ("update:1", "chat:1")
    assert "deep_inside" in line["stack"]
    forever.set()
    await end([run])
    await dispatcher.drain(1.0)
    assert dispatcher.stuck() == 0


async def test_a_backlog_that_can_not_be_read_is_read_again_though_nothing_else_comes(monkeypatch: Any) -> None:
    monkeypatch.setattr("botctl.bot.handling.dispatcher._AFTER_FAULT", 0.0)
    read = asyncio.Event()

    class Backlog:
        wants_refill = True
        reads = 0

        async def refill(self) -> None:
            self.reads += 1
            if self.reads == 1:
                raise ValueError("unexpected")
            self.wants_refill = False
            read.set()

    async def never(_: Any) -> Any:
        raise AssertionError

    backlog: Any = Backlog()
    dispatcher = Dispatcher(Lanes(), backlog, never, never, limits=LiveLimits(1, 5))
    run = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5):
        await read.wait()
    await end([run])
    assert backlog.reads == 2
