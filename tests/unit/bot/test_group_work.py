"""A member that can't store what its group has for it leaves it, and acknowledges nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from botctl.bot.exchange import group_work
from botctl.bot.vitals.health import Health
from botctl.bus.events import Event
from botctl.bus.reading.mailbox import Entry


class Mailbox:
    """The double of a group's mailbox: gives one entry until it is acknowledged."""

    def __init__(self) -> None:
        self.again = False
        self.left = 0
        self.acknowledged: list[str] = []
        self.empty = asyncio.Event()

    async def read(self, count: int) -> list[Entry]:
        if self.acknowledged:
            self.empty.set()
            await asyncio.Event().wait()
        return [Entry("1-0", Event(id="x", type="a.b", occurred_at=1))]

    def leave(self) -> None:
        self.left += 1
        self.again = True

    async def ack(self, ids: list[str]) -> bool:
        self.acknowledged += ids
        return True


class Database:
    asked = 0

    async def statement(self, work: Any) -> None:
        self.asked += 1


class Intake:
    """Takes long the first two times."""

    def __init__(self) -> None:
        self.calls = 0

    async def store(self, rows: list[Any]) -> frozenset[str]:
        self.calls += 1
        if self.calls <= 2:
            await asyncio.Event().wait()
        return frozenset(row.cause for row in rows)


async def test_what_is_not_stored_in_time_is_left_and_read_again_once_the_database_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_work, "STORE_WITHIN", 0.02)
    mailbox, database, intake, health = Mailbox(), Database(), Intake(), Health()
    rounds: list[None] = []
    task = asyncio.create_task(group_work.share(mailbox, database, intake, health, lambda: rounds.append(None)))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await mailbox.empty.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (mailbox.left, mailbox.acknowledged, intake.calls) == (2, ["1-0"], 3)
    assert database.asked >= 2
    assert health.counters["updates"] == 1
    assert len(rounds) == 1, "only what is where it belongs counts as worked off"
