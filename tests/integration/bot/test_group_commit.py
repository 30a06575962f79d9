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
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.group_commit import MOST
from botctl.bot.handling.scope import Scope, current
from botctl.bot.vitals.health import Health
from botctl.storage.direct import Ask, found, later
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

    def later(self, number: int, name: str = "1", *, then: Any = None) -> Any:
        """Work that puts a row off, and the chat of the same number; then perhaps something else."""

        async def work(connection: AsyncConnection) -> Any:
            await later(
                connection,
                f"INSERT INTO users (bot_id, user_id, first_name) VALUES ({self.bot_id}, $1, $2)"
                " ON CONFLICT (bot_id, user_id) DO NOTHING",
                (number, name),
            )
            await later(
                connection,
                "INSERT INTO conversations (bot_id, chat_id, thread_id, started_at)"
                f" VALUES ({self.bot_id}, $1, 0, now())"
                " ON CONFLICT (bot_id, chat_id, thread_id) WHERE closed_at IS NULL DO NOTHING",
                (number,),
            )
            return None if then is None else await then(connection)

        return work

    async def commits(self) -> int:
        """Transactions that have stored rows."""
        rows = await self.outside.fetchval(
            "SELECT count(DISTINCT xmin::text) FROM users WHERE bot_id = $1", self.bot_id
        )
        return int(rows)


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
    assert all(isinstance(end, asyncpg.PostgresError | ZeroDivisionError) for end in ends[::4])
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


@pytest.mark.parametrize("of", [1, 20])
@pytest.mark.parametrize("how", ["statement", "transaction"])
async def test_a_connection_that_ends_in_the_middle_of_work_is_used_no_more(bench: Bench, how: str, of: int) -> None:
    pids: list[int] = []

    async def cut(connection: AsyncConnection) -> None:
        if len(pids) >= 20:
            return
        found = await connection.exec_driver_sql("SELECT pg_backend_pid()")
        pids.append(found.scalar_one())
        await connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        await connection.exec_driver_sql("SELECT 1")

    run = bench.database.statement if how == "statement" else bench.database.transaction
    async with asyncio.timeout(30):
        await asyncio.gather(run(cut), *(run(bench.adding(number)) for number in range(of)))
    assert len(set(pids)) == len(pids) == 20, "each time another one"
    assert await bench.stored() == list(range(of))


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


async def test_what_is_put_off_is_committed_with_the_work(bench: Bench) -> None:
    await bench.database.transaction(bench.later(1))
    await asyncio.gather(*(bench.database.transaction(bench.later(number)) for number in range(2, 60)))
    assert await bench.stored() == list(range(1, 60))
    chats = await bench.outside.fetch("SELECT chat_id FROM conversations WHERE bot_id = $1", bench.bot_id)
    assert sorted(row[0] for row in chats) == list(range(1, 60))
    assert await bench.commits() <= 8


@pytest.mark.parametrize("of", [1, 30])
async def test_who_asks_sees_what_the_same_work_has_put_off(bench: Bench, of: int) -> None:
    async def count_(connection: AsyncConnection) -> list[int]:
        counted = await connection.exec_driver_sql(
            f"SELECT (SELECT count(*) FROM users WHERE bot_id = {bench.bot_id} AND user_id = $1),"
            f" (SELECT count(*) FROM conversations WHERE bot_id = {bench.bot_id} AND chat_id = $1)",
            (number,),
        )
        return list(counted.one())

    number = 7
    works = [bench.later(7, then=count_), *(bench.later(100 + more) for more in range(of - 1))]
    seen, *_ = await asyncio.gather(*(bench.database.transaction(work) for work in works))
    assert seen == [1, 1]


@pytest.mark.parametrize("of", [1, 30])
async def test_a_failure_of_what_was_put_off_is_only_its_owners(bench: Bench, of: int) -> None:
    works = [bench.later(0, "a\0"), *(bench.later(more) for more in range(1, of))]
    failure, *others = await asyncio.gather(
        *(bench.database.transaction(work) for work in works), return_exceptions=True
    )
    assert isinstance(failure, asyncpg.PostgresError)
    assert others == [None] * (of - 1)
    assert await bench.stored() == list(range(1, of))
    chats = await bench.outside.fetchval("SELECT count(*) FROM conversations WHERE bot_id = $1", bench.bot_id)
    assert chats == of - 1


@pytest.mark.parametrize("of", [1, 40])
async def test_first_questions_are_answered_each_to_its_own(bench: Bench, of: int) -> None:
    def work(ask: Ask) -> Any:
        async def is_there(connection: AsyncConnection) -> tuple[bool, bool]:
            first = await found(connection, ask)
            return first, await found(connection, ask)

        return is_there

    await asyncio.gather(*(bench.database.transaction(bench.adding(number)) for number in range(0, of, 2)))
    sql = (
        f"UPDATE users SET first_name = 'seen' WHERE bot_id = {bench.bot_id} AND user_id = $1 AND first_name = '1'"
        " RETURNING user_id"
    )
    asks = [Ask(sql, (number,), number) for number in range(of)]
    answers = await asyncio.gather(*(bench.database.transaction(work(ask), first=ask) for ask in asks))
    assert answers == [(number % 2 == 0, False) for number in range(of)]
