"""What is repeated when the database refuses, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from botctl.bot.database import Database
from botctl.bot.vitals.health import Health


class FakeEngine:
    """Its own connection, in a pool and out of it."""

    driver_connection = None

    def __init__(self) -> None:
        self.sync_connection = self.connection = self
        self.info: dict[str, Any] = {}

    def execution_options(self, **options: Any) -> FakeEngine:
        return self

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeEngine]:
        yield self

    async def exec_driver_sql(self, sql: str) -> None:
        pass


def refusing(times: int, error: Exception, told: Callable[[], Any]) -> tuple[Callable[[Any], Any], list[Any]]:
    seen: list[Any] = []

    async def work(connection: Any) -> str:
        seen.append(told())
        if len(seen) <= times:
            raise error
        return "done"

    return work, seen


@pytest.mark.parametrize("error", [asyncpg.LockNotAvailableError("lock timeout"), PoolTimeoutError("none is free")])
async def test_refusals_are_repeated_and_told_when_they_last(error: Exception) -> None:
    seconds = 0.0

    def clock() -> float:
        nonlocal seconds
        seconds += 1.0
        return seconds

    health = Health()
    engine: Any = FakeEngine()
    database = Database(engine, health, clock=clock)
    await database.first()
    work, seen = refusing(4, error, lambda: (health.degraded, health.paused))
    assert await database.statement(work) == "done"
    assert seen[0] == (False, False)
    assert seen[-1] == (True, False)
    assert not health.degraded


async def test_while_the_disk_is_full_everybody_waits_for_the_one_who_found_out() -> None:
    """The server answers all the while: only what writes finds out that there is room again."""
    health, told = Health(), []
    engine: Any = FakeEngine()
    database = Database(engine, health, clock=lambda: 0.0)
    await database.first()
    errors = [asyncpg.DiskFullError("could not extend file"), OSError("gone"), asyncpg.DiskFullError("no room")]
    trials = 0

    async def write(connection: Any) -> str:
        nonlocal trials
        trials += 1
        told.append((health.paused, health.reason))
        if trials <= len(errors):
            raise errors[trials - 1]
        return "written"

    async def read(connection: Any) -> str:
        assert trials > len(errors), "nobody else tries meanwhile"
        return "read"

    async with asyncio.timeout(10):
        writing = asyncio.create_task(database.statement(write))
        await health.changed.wait()
        assert health.paused
        assert await database.statement(read) == "read"
        assert await writing == "written"
    full = (True, "the database's disk is full")
    assert told == [(False, ""), full, (True, "the database is away"), full]
    assert not health.degraded


async def test_who_gives_up_while_the_disk_is_full_lets_the_others_try() -> None:
    health = Health()
    engine: Any = FakeEngine()
    database = Database(engine, health, clock=lambda: 0.0)
    await database.first()

    async def write(connection: Any) -> None:
        raise asyncpg.DiskFullError("could not extend file")

    writing = asyncio.create_task(database.statement(write))
    async with asyncio.timeout(10):
        await health.changed.wait()
        assert health.reason == "the database's disk is full"
        writing.cancel()
        await asyncio.wait([writing])
        assert not health.reason
        work, _ = refusing(0, OSError(), lambda: None)
        assert await database.statement(work) == "done"
