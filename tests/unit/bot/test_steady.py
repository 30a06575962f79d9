"""A reader of the bus that breaks is told to the operator, gives back what it had, and begins again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from botctl.bot.exchange.reactions import collect
from botctl.bot.exchange.steady import Steady
from botctl.bot.vitals.health import Health
from botctl.bus.events import Event
from botctl.bus.reading.mailbox import Entry


class Mailbox:
    """The double of a mailbox: what was given and not acknowledged comes again once it was left."""

    def __init__(self, *ids: str) -> None:
        self.given: list[str] = []
        self.waiting = list(ids)
        self.acknowledged: list[str] = []

    async def read(self) -> list[Entry]:
        await asyncio.sleep(0)
        entries = [Entry(f"{one}-0", Event(id=one, type="a.b", occurred_at=1)) for one in self.waiting]
        self.given, self.waiting = self.waiting, []
        return entries

    def leave(self) -> None:
        self.waiting, self.given = [*self.given, *self.waiting], []

    async def ack(self, ids: list[str]) -> bool:
        self.acknowledged += ids
        self.given = []
        return True


class Intake:
    """Refuses until it is `mended`."""

    def __init__(self) -> None:
        self.mended = False
        self.stored: list[str] = []

    async def store(self, rows: list[Any]) -> frozenset[str]:
        if rows and not self.mended:
            raise PermissionError("permission denied for table inbox")
        self.stored += [row.cause for row in rows]
        return frozenset(row.cause for row in rows)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_a_reader_that_breaks_is_told_and_begins_again_with_what_it_had() -> None:
    mailbox, intake, health = Mailbox("x", "y"), Intake(), Health()

    async def replies(events: Any) -> None:
        raise AssertionError("there are none")

    async def work(well: Callable[[], None]) -> None:
        await collect(mailbox, intake, health, replies, well)  # type: ignore[arg-type]

    task = asyncio.create_task(Steady(health, first=0.001, limit=0.001).keep("its mailbox", work, mailbox.leave))
    try:
        await until(lambda: health.degraded)
        assert health.reason == (
            "its mailbox can't be worked off: PermissionError: permission denied for table inbox; "
            "what comes waits in Redis"
        )
        assert health.changed.is_set(), "told with the next beat"
        assert mailbox.acknowledged == []
        intake.mended = True
        await until(lambda: not health.degraded)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (intake.stored, mailbox.acknowledged) == (["event:x", "event:y"], ["x-0", "y-0"])


async def test_of_several_readers_each_is_told_for_itself() -> None:
    health, mended = Health(), set[str]()
    steady = Steady(health, first=0.001, limit=0.001)

    def reader(name: str) -> Any:
        async def work(well: Callable[[], None]) -> None:
            await asyncio.sleep(0)
            if name not in mended:
                raise ValueError(name)
            well()
            await asyncio.Event().wait()

        return work

    tasks = [asyncio.create_task(steady.keep(name, reader(name))) for name in ("one", "two")]
    try:
        await until(lambda: "one can't" in health.reason and "two can't" in health.reason)
        mended.add("one")
        await until(lambda: "one can't" not in health.reason)
        assert "two can't be worked off: ValueError: two" in health.reason
        mended.add("two")
        await until(lambda: not health.degraded)
    finally:
        for task in tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.gather(*tasks)
