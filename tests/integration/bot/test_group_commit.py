"""Work of many in one commit, on a real PostgreSQL: who fails harms nobody; nothing is told before the commit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.group_commit import MOST
from botctl.bot.handling.scope import Scope, current
from botctl.bot.vitals.health import Health
from botctl.storage.engine import bot_engine, connect

_numbers = count(4_900_001)


class Bench:
    """A bot's database, and somebody who looks from outside."""

    def __init__(self, database: Database, bot_id: int, outside: asyncpg.Connection[Any]) -> None:
        self.database = database
        self.bot_id = bot_id
        self.outside = outside

    def adding(self, number: int, then: str = "") -> Any:
        """Work that stores a row, idempotently, and perhaps fails then; it returns the transaction's number."""

        async def work(connection: AsyncConnection) -> int:
            await connection.exec_driver_sql(
                f"INSERT INTO users (bot_id, user_id, first_name) VALUES ({self.bot_id}, $1, '1')"
                " ON CONFLICT (bot_id, user_id) DO UPDATE SET first_name = users.first_name",
                (number,),
            )
            if then:
                await connection.exec_driver_sql(then)
            found = await connection.exec_driver_sql("SELECT pg_current_xact_id()::text::bigint")
            return int(found.scalar_one())

        return work

    async def stored(self) -> list[int]:
        rows = await self.outside.fetch("SELECT user_id FROM users WHERE bot_id = $1 ORDER BY user_id", self.bot_id)
        return [row[0] for row in rows]


@pytest.fixture
async def bench(database: Any) -> AsyncIterator[Bench]:
    bot_id = next(_numbers)
    login = await database.add_bot(bot_id)
    made = Database(bot_engine(login.target, bot_id, lambda: (login.password,)), Health(), clock=time.monotonic)
    await made.first()
    outside = await connect(database.admin)
    yield Bench(made, bot_id, outside)
    await outside.close()
    await made.close()


async def test_what_waits_at_the_same_time_is_one_commit(bench: Bench) -> None:
    transactions = await asyncio.gather(*(bench.database.transaction(bench.adding(number)) for number in range(100)))
    assert await bench.stored() == list(range(100))
    assert 100 / MOST <= len(set(transactions)) <= 20


@pytest.mark.parametrize("wrong", ["SELECT 1/0", "INSERT INTO bots (bot_id) VALUES (1)", "not sql", "RAISE"])
async def test_who_fails_gets_its_own_error_and_the_others_are_committed(bench: Bench, wrong: str) -> None:
    async def raising(connection: AsyncConnection) -> None:
        await bench.adding(99)(connection)
        raise ZeroDivisionError

    def work(number: int) -> Any:
        if number % 4:
            return bench.adding(number)
        return raising if wrong == "RAISE" else bench.adding(number, wrong)

    ends = await asyncio.gather(
        *(bench.database.transaction(work(number)) for number in range(40)), return_exceptions=True
    )
    assert all(isinstance(end, DBAPIError | ZeroDivisionError) for end in ends[::4])
    assert all(isinstance(end, int) for number, end in enumerate(ends) if number % 4)
    assert await bench.stored() == [number for number in range(40) if number % 4]


async def test_nothing_is_told_before_it_is_committed(bench: Bench) -> None:
    async def store(number: int) -> None:
        await (bench.database.statement if number % 2 else bench.database.transaction)(bench.adding(number))
        async with lock:
            assert await bench.outside.fetchval(
                "SELECT true FROM users WHERE bot_id = $1 AND user_id = $2", bench.bot_id, number
            )

    lock = asyncio.Lock()
    await asyncio.gather(*(store(number) for number in range(60)))


async def test_when_the_connection_is_lost_all_of_a_group_are_done_once_more(bench: Bench) -> None:
    draw = random.Random(3)
    done: list[int] = []

    async def store(number: int) -> None:
        await asyncio.sleep(draw.random() / 20)
        await bench.database.transaction(bench.adding(number, "SELECT pg_sleep(0.001)"))
        done.append(number)

    async def kill() -> None:
        """Again each time when some more is done."""
        for more in range(0, 200, 40):
            while len(done) < more:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await bench.outside.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", f"bot_{bench.bot_id}"
            )

    async with asyncio.timeout(60):
        killing = asyncio.create_task(kill())
        await asyncio.gather(*(store(number) for number in range(200)))
        await killing
    assert await bench.stored() == sorted(done) == list(range(200))


async def test_who_gives_up_takes_nobody_along(bench: Bench) -> None:
    held = asyncio.Event()

    async def slow(connection: AsyncConnection) -> None:
        await held.wait()

    slow_ones = [asyncio.create_task(bench.database.transaction(slow)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks = [asyncio.create_task(bench.database.transaction(bench.adding(number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    held.set()
    async with asyncio.timeout(10):
        await asyncio.wait([*tasks, *slow_ones])
    assert all(task.cancelled() for task in tasks[::2])
    assert await bench.stored() == list(range(1, 20, 2))


async def test_work_knows_whose_scope_it_is(bench: Bench) -> None:
    async def whose(connection: AsyncConnection) -> str:
        scope = current.get()
        assert scope is not None
        await connection.exec_driver_sql("SELECT 1")
        return scope.cause

    async def ask(number: int) -> str:
        current.set(Scope(cause=f"update:{number}", trace_id="t"))
        return await bench.database.transaction(whose)

    causes = await asyncio.gather(*(asyncio.create_task(ask(number)) for number in range(30)))
    assert causes == [f"update:{number}" for number in range(30)]


async def test_who_reads_has_its_turn_however_many_commit(bench: Bench) -> None:
    stop = False

    async def commit_on(number: int) -> None:
        while not stop:
            await bench.database.transaction(bench.adding(number))

    async def read(connection: AsyncConnection) -> int:
        return int((await connection.exec_driver_sql("SELECT 7")).scalar_one())

    async def once(connection: AsyncConnection) -> int:
        return await read(connection)

    busy = [asyncio.create_task(commit_on(number)) for number in range(40)]
    try:
        async with asyncio.timeout(10):
            for _ in range(10):
                assert await bench.database.read(read) == 7
                assert await bench.database.attempt(once) == 7
    finally:
        stop = True
        await asyncio.gather(*busy)


async def test_what_is_urgent_is_done_before_all_that_waits(bench: Bench) -> None:
    ends: list[int] = []

    async def note(number: int, *, urgent: bool) -> None:
        await (bench.database.urgent if urgent else bench.database.transaction)(bench.adding(number))
        ends.append(number)

    ordinary = [asyncio.create_task(note(number, urgent=False)) for number in range(100)]
    await asyncio.sleep(0)
    await asyncio.gather(note(1000, urgent=True), *ordinary)
    assert ends.index(1000) <= 3 * MOST
