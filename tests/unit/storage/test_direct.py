"""What becomes of a connection whose work has failed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from botctl.storage.direct import Session


class Driver:
    def __init__(self, fails: Exception | None = None) -> None:
        self.said: list[str] = []
        self.fails = fails

    async def execute(self, sql: str) -> None:
        self.said.append(sql)
        if self.fails is not None:
            raise self.fails

    def terminate(self) -> None:
        self.said.append("terminate")


def session(driver: Driver) -> Session:
    pooled: Any = SimpleNamespace(driver_connection=driver, info={})
    connection: Any = SimpleNamespace(sync_connection=SimpleNamespace(connection=pooled))
    return Session(connection, transaction=True)


FATAL = asyncpg.TooManyConnectionsError("last word")
FATAL.severity_en = "FATAL"


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(asyncpg.AdminShutdownError("terminating"), id="ended by an administrator"),
        pytest.param(asyncpg.CrashShutdownError("crash"), id="the server has crashed"),
        pytest.param(FATAL, id="fatal"),
        pytest.param(asyncpg.ConnectionDoesNotExistError("gone"), id="the connection is gone"),
        pytest.param(asyncpg.InternalClientError("cannot switch to state 11"), id="a torn exchange"),
        pytest.param(asyncpg.InterfaceError("closed"), id="closed"),
        pytest.param(OSError("reset"), id="reset"),
        pytest.param(asyncio.CancelledError(), id="cancelled in the middle"),
    ],
)
async def test_a_connection_in_doubt_is_closed_and_nothing_is_said_on_it(error: BaseException) -> None:
    driver = Driver()
    await session(driver).rollback(error)
    assert driver.said == ["terminate"]


@pytest.mark.parametrize(
    "error", [asyncpg.UniqueViolationError("twice"), asyncpg.DataError("no int"), ZeroDivisionError()]
)
async def test_a_connection_goes_on_after_a_refusal(error: Exception) -> None:
    driver = Driver()
    await session(driver).rollback(error)
    assert driver.said == []


async def test_what_can_t_be_rolled_back_is_closed() -> None:
    driver = Driver(asyncpg.InternalClientError("cannot switch to state 11"))
    one = session(driver)
    with pytest.raises(asyncpg.InternalClientError):
        await one.ask("SELECT 1", ())
    await one.rollback(asyncpg.UniqueViolationError("twice"))
    assert driver.said == ["BEGIN", "ROLLBACK", "terminate"]
