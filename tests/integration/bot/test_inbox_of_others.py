"""Rows that other processes put into the inbox, on a real PostgreSQL: none is missed, none comes twice, none overtakes.

Numbers are taken before a commit, so rows become visible in another order than that of their numbers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.database import Database
from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.receiving.looking import Looking
from botctl.bot.tasks import end
from botctl.bot.vitals.health import Health
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, NewRow

_numbers = count(4_700_001)


def new_row(cause: str, lane: str) -> NewRow:
    return NewRow(cause, None, "message", lane, '{"update_id": 1}', "t")


@dataclass
class Desk:
    """The intake of one bot with its lanes, and a hand that works rows off."""

    bot_id: int
    database: Database
    inbox: Inbox
    lanes: Lanes
    intake: Intake
    handled: list[str] = field(default_factory=list)

    async def work_off(self) -> bool:
        """One row, if there is one; as the dispatcher does."""
        row = self.lanes.take(time.monotonic())
        if row is None:
            return False
        assert row.cause not in self.handled, row
        await self.database.statement(lambda connection: self.inbox.done(connection, row.inbox_id))
        self.handled.append(row.cause)
        self.lanes.release(row.lane, time.monotonic())
        if self.intake.wants_refill:
            await self.intake.refill()
        return True

    async def work_all_off(self) -> None:
        while await self.work_off():
            pass


@pytest.fixture
async def desk(database: Any) -> AsyncIterator[Desk]:
    bot_id = next(_numbers)
    login = await database.add_bot(bot_id)
    made = Database(bot_engine(login.target, bot_id, lambda: (login.password,)), Health(), clock=time.monotonic)
    await made.first()
    inbox, lanes = Inbox(bot_id), Lanes(capacity=20, per_lane=4, reserve=10)
    yield Desk(bot_id, made, inbox, lanes, Intake(made, inbox, lanes, lambda: None, time.monotonic))
    await made.close()


async def test_a_row_that_is_committed_behind_others_is_found_and_comes_before_what_is_not_begun(
    desk: Desk, engine: AsyncEngine
) -> None:
    await desk.intake.refill()
    async with engine.connect() as other:
        await desk.inbox.add(other, [new_row("op:late", "chat:1")])  # has its number, is not committed
        await desk.intake.store([new_row("update:1", "chat:1"), new_row("update:2", "chat:2")])
        await desk.intake.look()
        assert len(desk.lanes) == 2
        await other.commit()
    await desk.intake.look()
    await desk.intake.look()
    assert len(desk.lanes) == 3
    await desk.work_all_off()
    assert desk.handled == ["op:late", "update:2", "update:1"] or desk.handled == ["update:2", "op:late", "update:1"]


async def test_what_waited_before_it_is_handled_before_it_though_nobody_told(desk: Desk, engine: AsyncEngine) -> None:
    await desk.intake.refill()
    async with engine.begin() as other:
        await desk.inbox.add(other, [new_row("op:1", "chat:1")])
    await desk.intake.store([new_row("update:1", "chat:1")])
    await desk.intake.refill()
    await desk.work_all_off()
    assert desk.handled == ["op:1", "update:1"]


async def test_a_dead_letter_that_is_revived_is_found_however_old_it_is(desk: Desk, engine: AsyncEngine) -> None:
    dead = NewRow("update:1", 1, "message", "chat:1", "{}", "t", dead="broken")
    await desk.intake.store([dead, *(new_row(f"update:{n}", f"chat:{n}") for n in range(2, 8))])
    await desk.intake.refill()
    await desk.work_all_off()
    async with engine.begin() as control:
        await control.exec_driver_sql(
            "UPDATE inbox SET state = 'new', attempts = 0, next_attempt_at = NULL, last_error = NULL, done_at = NULL"
            f" WHERE bot_id = {desk.bot_id} AND cause = 'update:1' AND state = 'dead'"
        )
    await desk.intake.look()
    await desk.work_all_off()
    assert desk.handled[-1] == "update:1"


async def test_behind_a_flood_a_new_message_of_another_chat_has_its_turn(desk: Desk, engine: AsyncEngine) -> None:
    async with engine.begin() as other:
        await desk.inbox.add(other, [new_row(f"flood:{n}", "chat:1") for n in range(600)])
        await desk.inbox.add(other, [new_row(f"many:{n}", f"chat:{n % 50 + 100}") for n in range(400)])
    await desk.intake.refill()
    await desk.intake.look()
    assert desk.intake.behind
    await desk.intake.store([new_row("update:1", "chat:2")])
    async with engine.begin() as other:
        await desk.inbox.add(other, [new_row("op:1", "chat:3")])
    await desk.intake.look()
    for _ in range(30):
        await desk.work_off()
    assert {"update:1", "op:1"} <= set(desk.handled)
    assert len(desk.lanes) <= 30
    await desk.work_all_off()
    assert len(desk.handled) == 1002
    assert [one for one in desk.handled if one.startswith("flood")] == [f"flood:{n}" for n in range(600)]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_order_of_commits_all_is_handled_once_and_each_source_in_its_order(
    desk: Desk, engine: AsyncEngine, seed: int
) -> None:
    draw = random.Random(seed)
    chats = [f"chat:{number}" for number in range(6)]
    stored: list[str] = []

    async def source(name: str) -> None:
        """Puts rows in one transaction after the other, some of which stay open for a while."""
        for number in range(25):
            rows = [
                new_row(f"{name}:{number}.{part}", draw.choice(chats[:3] if draw.random() < 0.7 else chats))
                for part in range(draw.randint(1, 6))
            ]
            async with engine.begin() as connection:
                await desk.inbox.add(connection, rows)
                await asyncio.sleep(draw.choice((0.0, 0.0, 0.001, 0.02)))
            stored.extend(row.cause for row in rows)
            if draw.random() < 0.5:
                looking.wake()

    async def poll() -> None:
        for number in range(60):
            rows = [new_row(f"bot:{number}.{part}", draw.choice(chats)) for part in range(draw.randint(1, 4))]
            await desk.intake.store([*rows, rows[0]] if draw.random() < 0.2 else rows)
            stored.extend(row.cause for row in rows)
            await asyncio.sleep(draw.choice((0.0, 0.002)))

    async def work() -> None:
        while True:
            if not await desk.work_off():
                await asyncio.sleep(0.001)

    looking = Looking(desk.intake.look, time.monotonic, every=0.05)
    await desk.intake.refill()
    tasks = [asyncio.create_task(one) for one in (looking.run(), work())]
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(source(name) for name in "abc"), poll())
            while len(desk.handled) < len(stored):
                for task in tasks:
                    assert not task.done() or task.result()
                await asyncio.sleep(0.01)
            await desk.intake.look()
    finally:
        await end(tasks)
    assert sorted(desk.handled) == sorted(stored)
    assert len(set(desk.handled)) == len(stored)
    query = f"SELECT cause, lane FROM inbox WHERE bot_id = {desk.bot_id}"
    rows: Any = await desk.database.statement(lambda connection: connection.exec_driver_sql(query))
    lanes = dict(rows.all())
    by_source: dict[tuple[str, str], list[str]] = defaultdict(list)
    for cause in desk.handled:
        by_source[cause.partition(":")[0], lanes[cause]].append(cause)
    order = {cause: place for place, cause in enumerate(stored)}
    for causes in by_source.values():
        assert causes == sorted(causes, key=order.__getitem__)
