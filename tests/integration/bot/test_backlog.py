"""A day's backlog in small: bounded memory, each row read about once, order kept, nobody lost, others not delayed."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.database import Database
from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.vitals.health import Health
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, InboxRow, NewRow

BOT = 4_950_001
TOTAL = 4000
TOGETHER = 32


class CountingInbox(Inbox):
    """Counts rows that were read."""

    read = 0

    async def waiting(self, *given: Any, **also: Any) -> list[InboxRow]:
        rows = await super().waiting(*given, **also)
        self.read += len(rows)
        return rows

    async def waiting_in_lane(self, *given: Any, **also: Any) -> list[InboxRow]:
        rows = await super().waiting_in_lane(*given, **also)
        self.read += len(rows)
        return rows


@pytest.fixture
async def database_of_bot(database: Any) -> AsyncIterator[Database]:
    login = await database.add_bot(BOT)
    made = Database(bot_engine(login.target, BOT, lambda: (login.password,)), Health(), clock=time.monotonic)
    await made.first()
    yield made
    await made.close()


def new_row(number: int, chat: int) -> NewRow:
    return NewRow(f"update:{number}", number, "message", f"chat:{chat}", '{"update_id": 1}', "t")


async def test_a_backlog_is_drained_in_order_and_within_bounds(database_of_bot: Database, engine: AsyncEngine) -> None:
    database, draw = database_of_bot, random.Random(5)
    inbox, lanes = CountingInbox(BOT), Lanes(capacity=300, per_lane=20, reserve=100)
    chats = [draw.choice([1] * 9 + [2] * 5 + list(range(10, 400))) for _ in range(TOTAL)]
    chats[: TOTAL // 2] = [1 if draw.random() < 0.9 else chat for chat in chats[: TOTAL // 2]]
    async with engine.begin() as connection:
        await inbox.add(connection, [new_row(number, chat) for number, chat in enumerate(chats)])
    intake = Intake(database, inbox, lanes, lambda: None, time.monotonic)
    await intake.refill()
    handled: dict[str, list[int]] = defaultdict(list)
    fresh: dict[int, int] = {}
    most = turn = 0
    while True:
        taken: list[InboxRow] = []
        while len(taken) < TOGETHER and (row := lanes.take(time.monotonic())) is not None:
            taken.append(row)
        if not taken:
            break
        ids = ",".join(str(row.inbox_id) for row in taken)
        done = f"UPDATE inbox SET state = 'done', done_at = now() WHERE bot_id = {BOT} AND inbox_id IN ({ids})"
        await database.statement(lambda connection, done=done: connection.exec_driver_sql(done))  # type: ignore[misc]
        turn += 1
        for row in taken:
            handled[row.lane].append(int(row.cause.partition(":")[2]))
            lanes.release(row.lane, time.monotonic())
            if row.lane.startswith("chat:9000"):
                fresh[int(row.lane[9:])] = turn
        if turn % 10 == 0 and intake.behind:
            await intake.store([new_row(TOTAL + turn, int(f"9000{turn}"))])
        if turn % 25 == 0:
            await intake.look()
        if intake.wants_refill:
            await intake.refill()
        most = max(most, len(lanes))
    assert most <= 400
    assert inbox.read <= 1.1 * TOTAL + turn, "each is read about once"
    assert sum(len(numbers) for lane, numbers in handled.items() if not lane.startswith("chat:9000")) == TOTAL
    for lane, numbers in handled.items():
        assert numbers == sorted(set(numbers)), lane
    assert len(fresh) >= 3
    assert all(answered - wrote <= 2 for wrote, answered in fresh.items()), "a new chat is in the next round or two"
