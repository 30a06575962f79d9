"""What is repeated when the database refuses, and what is told of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from botctl.bot.database import Database
from botctl.bot.health import Health


class FakeEngine:
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
