"""Runs and deaths on a real database: storing, telling newest first, retention, rights, and the way from 0001."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from alembic import command
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.handover import DatabaseLogin
from botctl.storage import bootstrap, migrate, runs
from botctl.storage.engine import connect, login_engine, parse_database_url
from botctl.storage.migrate import head, upgrade_login

DAY = 86_400.0


async def live(engine: AsyncEngine, bot_id: int, incarnation: int, at: float, **how: Any) -> None:
    """One incarnation that begins ten seconds before it ends at `at`."""
    given: dict[str, Any] = {"failure": "crash", "exit": "exit 1", "duration": 10.0}
    async with engine.begin() as connection:
        await runs.open_run(connection, bot_id, incarnation, at=at - 10, seq=1, pid=5)
        ending = runs.Ending(**(given | how))
        await runs.close_run(connection, bot_id, incarnation, at=at, seq=2, pid=5, ending=ending)


async def told(engine: AsyncEngine, bot_id: int, limit: int = 10, **more: Any) -> list[runs.StoredDeath]:
    async with engine.connect() as connection:
        return await runs.deaths(connection, bot_id, limit, **more)


async def test_a_death_comes_back_as_it_was_stored(engine: AsyncEngine, bot: int) -> None:
    now = time.time()
    how = {
        "failure": "hang", "exit": "signal 9", "detail": "why", "from_state": "failed", "cause": "no heartbeat",
        "action": "restarted in 0.1 s", "log_tail": ("a", "é", ""), "stacks": "Thread …", "memory_mb": 17.5,
        "silent_for": 10.25, "duration": 9.5,
    }  # fmt: skip
    await live(engine, bot, 1, now, **how)
    (death,) = await told(engine, bot)
    assert (death.bot_id, death.name, death.incarnation) == (bot, f"bot-{bot}", 1)
    assert death.ended_at == pytest.approx(now, abs=1e-3)
    assert death.started_at == pytest.approx(now - 10, abs=1e-3)
    assert (death.failure, death.exit, death.cause, death.action) == (
        "hang", "signal 9", "no heartbeat", "restarted in 0.1 s",
    )  # fmt: skip
    assert (list(death.log_tail), death.stacks) == (["a", "é", ""], "Thread …")
    assert (death.memory_mb, death.silent_for, death.duration) == (17.5, 10.25, 9.5)


async def test_deaths_are_newest_first_and_planned_ends_only_when_asked_for(engine: AsyncEngine, bot: int) -> None:
    now = time.time()
    await live(engine, bot, 2, now - 20)
    await live(engine, bot, 1, now - 40)
    await live(engine, bot, 3, now, failure=None, exit="exit 0")
    async with engine.begin() as connection:
        await runs.open_run(connection, bot, 4, at=now, seq=9, pid=6)
    assert [death.incarnation for death in await told(engine, bot)] == [2, 1]
    assert [death.incarnation for death in await told(engine, bot, 2, planned=True)] == [3, 2]
    async with engine.connect() as connection:
        assert await runs.failures_since(connection, bot, now - 30) == {"crash": 1}
        assert await runs.first_run_at(connection, bot) == pytest.approx(now - 30, abs=1e-3)
        assert await runs.first_run_at(connection, 1) is None


async def test_a_run_nobody_saw_end_counts_as_a_death_of_unknown_length(engine: AsyncEngine, bot: int) -> None:
    now = time.time()
    async with engine.begin() as connection:
        await runs.open_run(connection, bot, 1, at=now - 100, seq=1, pid=5)
        await runs.open_run(connection, bot, 1, at=now + 100, seq=1, pid=6)
        mine = [run for run in await runs.open_runs(connection, now) if run.bot_id == bot]
        assert [(run.incarnation, run.started_at) for run in mine] == [(1, pytest.approx(now - 100, abs=1e-3))]
        assert await runs.abandon_runs(connection, now) >= 1
        assert [run for run in await runs.open_runs(connection, now) if run.bot_id == bot] == []
    (death,) = await told(engine, bot)
    assert (death.failure, death.exit, death.duration) == (None, "unknown", None)
    assert death.cause == "the daemon ended without recording how; this was found when it was started again"


async def test_the_last_deaths_of_one_bot_are_read_from_their_index(
    database: Any, engine: AsyncEngine, bot: int
) -> None:
    admin = await connect(database.admin)
    try:
        await admin.execute(
            "INSERT INTO bot_runs (bot_id, incarnation, started_at, ended_at, failure)"
            " SELECT $1, n, now(), now() + make_interval(secs => n), 'crash' FROM generate_series(1, 5000) n",
            bot,
        )
        await admin.execute("ANALYZE bot_runs")
        plan = await admin.fetch(
            "EXPLAIN SELECT * FROM bot_runs WHERE bot_id = $1 AND ended_at IS NOT NULL"
            " ORDER BY ended_at DESC, run_id DESC LIMIT 3",
            bot,
        )
    finally:
        await admin.close()
    text = "\n".join(row[0] for row in plan)
    assert "Index Scan using" in text
    assert "Sort" not in text


async def prune(engine: AsyncEngine, **more: Any) -> int:
    async with engine.begin() as connection:
        return await runs.prune_runs(connection, **more)


async def left(engine: AsyncEngine, bot_id: int) -> list[int]:
    return [death.incarnation for death in await told(engine, bot_id, 100, planned=True)]


async def test_only_runs_both_old_and_beyond_the_latest_are_forgotten(engine: AsyncEngine, bot: int) -> None:
    now = time.time()
    for incarnation, days in enumerate((200, 150, 100, 50, 10), 1):
        await live(engine, bot, incarnation, now - days * DAY)
    async with engine.begin() as connection:
        await runs.open_run(connection, bot, 6, at=now - 300 * DAY, seq=1, pid=5)
    await prune(engine, keep=5, days=90)
    assert await left(engine, bot) == [5, 4, 3, 2, 1]
    await prune(engine, keep=3, days=90)
    assert await left(engine, bot) == [5, 4, 3], "the third is old, but among the latest three"
    await prune(engine, keep=1, days=90)
    assert await left(engine, bot) == [5, 4], "the second is one too many, but young"
    async with engine.connect() as connection:
        assert [run.incarnation for run in await runs.open_runs(connection, now) if run.bot_id == bot] == [6]


async def test_a_bot_that_dies_again_and_again_fills_no_disk(engine: AsyncEngine, bot: int) -> None:
    now = time.time()
    for incarnation in range(1, 8):
        await live(engine, bot, incarnation, now - DAY / incarnation)
    async with engine.begin() as connection:
        await runs.open_run(connection, bot, 8, at=now, seq=1, pid=5)
    await prune(engine, keep=1, days=90, most=7)
    assert await left(engine, bot) == [7, 6, 5, 4, 3, 2, 1]
    await prune(engine, keep=1, days=90, most=4)
    assert await left(engine, bot) == [7, 6, 5, 4], "young, but too many"
    await prune(engine, keep=3, days=90, most=2)
    assert await left(engine, bot) == [7, 6, 5], "what is to be kept in any case is"
    async with engine.connect() as connection:
        assert [run.incarnation for run in await runs.open_runs(connection, now + 1) if run.bot_id == bot] == [8]


async def test_pruning_leaves_other_bots_alone_and_goes_in_bounded_steps(
    database: Any, engine: AsyncEngine, bot_ids: Iterator[int]
) -> None:
    one, two = next(bot_ids), next(bot_ids)
    admin = await connect(database.admin)
    try:
        await admin.executemany("INSERT INTO bots (bot_id, name) VALUES ($1, $2)", [(one, "one"), (two, "two")])
        for bot_id, count in ((one, 6), (two, 2)):
            for incarnation in range(1, count + 1):
                await live(engine, bot_id, incarnation, time.time() - (300 - incarnation) * DAY)
        assert await admin.fetchval("SELECT botctl_internal.prune_runs(2, 90, 3)") == 3
        assert await admin.fetchval("SELECT botctl_internal.prune_runs(2, 90, 3)") == 1
        assert await left(engine, one) == [6, 5]
        assert await left(engine, two) == [2, 1]
        with pytest.raises(asyncpg.RaiseError, match="must be kept"):
            await admin.execute("SELECT botctl_internal.prune_runs(0, 90)")
    finally:
        await admin.close()


async def test_a_bot_reads_its_own_deaths_and_writes_none(
    database: Any, engine: AsyncEngine, bot: int, bot_ids: Iterator[int]
) -> None:
    other = next(bot_ids)
    await live(engine, bot, 1, time.time(), stacks="mine")
    await live(engine, other, 1, time.time(), stacks="not mine")
    login = await connect(await database.add_bot(bot))
    control = await connect(database.control)
    try:
        assert [row["stacks"] for row in await login.fetch("SELECT stacks FROM bot_runs")] == ["mine"]
        for statement in (
            "UPDATE bot_runs SET cause = 'x'",
            "DELETE FROM bot_runs",
            "SELECT botctl_internal.prune_runs(1, 1)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await login.execute(statement)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await control.execute("DELETE FROM bot_runs")
    finally:
        await login.close()
        await control.close()


async def test_a_database_of_the_last_release_keeps_its_runs_and_tells_of_them(empty_database_url: str) -> None:
    admin = parse_database_url(empty_database_url)
    await bootstrap._create_database(admin)
    await _upgrade_to(admin, "0001")
    connection = await connect(admin)
    try:
        await connection.execute("INSERT INTO bots (bot_id, name) VALUES (7, 'old')")
        await connection.execute(
            "INSERT INTO bot_runs (bot_id, incarnation, started_at, ended_at, failure, exit, detail) VALUES"
            " (7, 1, now() - interval '60 s', now() - interval '40 s', 'crash', 'exit 1', E'the reason\\nlast line'),"
            " (7, 2, now() - interval '40 s', now(), NULL, 'unknown', 'the daemon ended without recording how')"
        )
    finally:
        await connection.close()
    assert await upgrade_login(admin) == ("0001", head())
    engine = login_engine(admin)
    try:
        found = await told(engine, 7)
    finally:
        await engine.dispose()
    assert [(death.incarnation, death.cause, death.duration) for death in found] == [
        (2, "the daemon ended without recording how", None), (1, "the reason", pytest.approx(20.0)),
    ]  # fmt: skip
    assert [list(death.log_tail) for death in found] == [[], []]


async def _upgrade_to(admin: DatabaseLogin, revision: str) -> None:
    def run(connection: SyncConnection) -> None:
        command.upgrade(migrate._config(connection), revision)
        connection.commit()

    engine = login_engine(admin, pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    finally:
        await engine.dispose()
