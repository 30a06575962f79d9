"""What is said on a connection, in which order, and what becomes of it when its work has failed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from botctl.storage.direct import Session, later


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

    async def prepare(self, sql: str) -> Statement:
        return Statement(sql, self.said)


class Statement:
    def __init__(self, sql: str, said: list[str]) -> None:
        self.sql = sql
        self.said = said

    async def fetch(self, *parameters: Any) -> list[Any]:
        self.said.append(f"{self.sql} {parameters}")
        return []

    async def executemany(self, parameters: list[Any]) -> None:
        self.said.append(f"{self.sql} {parameters}")

    def get_statusmsg(self) -> str:
        return "UPDATE 0"


ONE, OTHER = "UPDATE one SET a = $1", "UPDATE other SET b = $1"


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


async def test_what_a_single_work_puts_off_is_one_statement_that_commits_by_itself() -> None:
    driver = Driver()
    one = session(driver)
    work = one.work()
    await later(work, ONE, (1,))
    await later(work, OTHER, (2,))
    assert driver.said == []
    await one.commit()
    assert driver.said == ["WITH part_0 AS (UPDATE one SET a = $1) UPDATE other SET b = $2 (1, 2)"]


async def test_what_several_put_off_is_done_together_but_each_ones_in_its_order() -> None:
    driver = Driver()
    one = session(driver)
    for number, order in enumerate([(ONE, OTHER), (ONE, OTHER), (OTHER, ONE)]):
        work = one.work()
        for sql in order:
            await later(work, sql, (number,))
    await one.commit()
    together = [f"{ONE} [(0,), (1,)]", f"{OTHER} [(0,), (1,), (2,)]", f"{ONE} (2,)"]
    assert driver.said == ["BEGIN", *together, "COMMIT"]


async def test_who_asks_asks_after_what_the_same_work_has_put_off() -> None:
    driver = Driver()
    one = session(driver)
    work, other = one.work(), one.work()
    await later(work, ONE, (1,))
    await other.exec_driver_sql("SELECT 1")
    assert driver.said == ["BEGIN", "SELECT 1 ()"], "another work's may wait on"
    await work.exec_driver_sql("SELECT 2")
    await one.commit()
    assert driver.said[2:] == [f"{ONE} (1,)", "SELECT 2 ()", "COMMIT"]
