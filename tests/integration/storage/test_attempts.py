"""Attempts that don't end well leave a row each, with the bot's own login; those that do leave none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.storage import dead_letters, deliveries
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.interruptions import Interruptions, Mark, Settled

BOT, OTHER = 4301, 4302


@pytest.fixture
async def bots(database: Any) -> AsyncIterator[AsyncEngine]:
    login = await database.add_bot(BOT)
    made = bot_engine(login.target, BOT, lambda: (login.password,), pool_size=1)
    yield made
    await made.dispose()


@pytest.fixture
async def waiting(bots: AsyncEngine) -> int:
    """inbox_id of a row that waits."""
    async with bots.begin() as connection:
        ids = await Inbox(BOT).add(connection, [NewRow("update:1", 1, "message", "chat:5", "{}", "t")])
    return ids["update:1"]


@pytest.fixture(autouse=True)
async def _emptied(database: Any) -> AsyncIterator[None]:
    yield
    from botctl.storage.engine import connect

    admin = await connect(database.admin)
    await admin.execute("DELETE FROM attempts")
    await admin.execute("DELETE FROM inbox")
    await admin.close()


async def _kept(bots: AsyncEngine) -> list[tuple[Any, ...]]:
    async with bots.connect() as connection:
        result = await connection.exec_driver_sql(
            "SELECT attempt, outcome, error, traceback, begun_at IS NOT NULL FROM attempts ORDER BY attempt_id"
        )
        return [tuple(row) for row in result]


async def _value(bots: AsyncEngine, what: str) -> Any:
    async with bots.connect() as connection:
        return (await connection.exec_driver_sql(f"SELECT {what} FROM inbox WHERE bot_id = {BOT}")).scalar_one()


async def test_an_attempt_that_ends_well_leaves_no_row_and_says_when_it_began(bots: AsyncEngine, waiting: int) -> None:
    inbox = Inbox(BOT)
    assert await _value(bots, "begun_at") is None
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1)
    begun = await _value(bots, "begun_at")
    async with bots.begin() as connection:  # the assistant steps back while it waits for the model
        await inbox.step_back(connection, waiting, 0)
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1, again=True)
        await inbox.done(connection, waiting)
    assert await _value(bots, "begun_at") == begun
    assert await _kept(bots) == []


async def test_failures_waits_and_the_end_are_kept_once_each(bots: AsyncEngine, waiting: int) -> None:
    inbox = Inbox(BOT)
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1)
    for _ in range(2):  # the answer of the first commit was lost
        async with bots.begin() as connection:
            await inbox.postpone(connection, waiting, "ValueError: x", 1.0, 1, attempt=1, traceback="File a")
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 2)
    async with bots.begin() as connection:
        await inbox.postpone(connection, waiting, "NetworkError", 1.0, 1, attempt=2)
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 2)
    for _ in range(2):
        async with bots.begin() as connection:
            await inbox.dead(connection, waiting, "KeyError: y", attempt=2, traceback="File b")
    assert await _kept(bots) == [
        (1, "failed", "ValueError: x", "File a", True),
        (2, "waited", "NetworkError", None, True),
        (2, "given up", "KeyError: y", "File b", True),
    ]
    assert await _value(bots, "begun_at") is None


async def test_what_a_process_left_under_way_is_kept_also_while_it_waited_for_a_model(
    bots: AsyncEngine, waiting: int
) -> None:
    inbox = Inbox(BOT)
    for model in (False, True):
        async with bots.begin() as connection:
            await inbox.begin_attempt(connection, waiting, 1)
            if model:
                await inbox.step_back(connection, waiting, 0)
            await Interruptions(BOT).note(connection, "the process ended: crash")
            await Interruptions(BOT).note(connection, "the process ended: crash")
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1)
        await inbox.interrupt(connection, waiting, 1, "the bot was asked to end")
    assert [row[:3] for row in await _kept(bots)] == [
        (1, "interrupted", "the process ended: crash"),
        (1, "interrupted", "the process ended: crash"),
        (1, "interrupted", "the bot was asked to end"),
    ]
    assert await _value(bots, "attempts") == 0


async def test_what_is_held_against_a_row_stays_until_its_attempt_ends(bots: AsyncEngine, waiting: int) -> None:
    inbox, interruptions = Inbox(BOT), Interruptions(BOT)
    mark = Mark(deaths=1, kills=6, rest=4.5)
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1)
        assert (await interruptions.under_way(connection))[waiting].attempts == 1
        await interruptions.note(connection, "the process ended: signal")
        await interruptions.settle(connection, [Settled(waiting, True, mark)])
        assert await interruptions.under_way(connection) == {}
        assert await interruptions.marks(connection) == {waiting: mark}
    assert await _value(bots, "attempts") == 0
    async with bots.begin() as connection:
        await inbox.begin_attempt(connection, waiting, 1)
        await inbox.postpone(connection, waiting, "ValueError: x", 1.0, 1)
        assert await interruptions.marks(connection) == {}
        await interruptions.settle(connection, [Settled(waiting, False, None)])
    assert await _value(bots, "last_error") == "ValueError: x"
    async with bots.begin() as connection:
        await interruptions.settle(connection, [Settled(waiting, False, mark)])
        await inbox.done(connection, waiting)
    assert await _value(bots, "last_error") is None


async def test_a_retried_dead_letter_waits_at_its_place_and_a_dropped_one_is_kept(
    bots: AsyncEngine, engine: AsyncEngine, waiting: int
) -> None:
    inbox = Inbox(BOT)
    async with bots.begin() as connection:
        await inbox.add(connection, [NewRow("update:2", 2, "message", "chat:5", "{}", "t")])
        await inbox.begin_attempt(connection, waiting, 1)
        await inbox.dead(connection, waiting, "KeyError: y", attempt=1)
    async with engine.begin() as control:
        assert await dead_letters.retry(control, OTHER, [waiting], "ann") == []
        assert await dead_letters.retry(control, BOT, [waiting, waiting + 1], "ann") == [waiting]
        assert await dead_letters.retry(control, BOT, [waiting], "ann") == []
    async with bots.connect() as connection:
        rows = await inbox.waiting_in_lane(connection, "chat:5", 10)
    assert [(row.cause, row.attempts, row.replayed) for row in rows] == [("update:1", 0, True), ("update:2", 0, True)]
    async with bots.begin() as connection:
        await inbox.dead(connection, waiting, "KeyError: z", attempt=1)
    async with engine.begin() as control:
        died_at = await _done_at(control, waiting)
        assert await dead_letters.drop(control, BOT, [waiting], "ben") == [waiting]
        assert await _done_at(control, waiting) > died_at, "it is kept from now on, however old it is"
        assert await dead_letters.drop(control, BOT, [waiting], "ben") == []
        assert (await deliveries.dead_letters_ever(control))[BOT] == 2
    assert [row[:3] for row in await _kept(bots)][-3:] == [
        (1, "retried", "ann"),
        (1, "given up", "KeyError: z"),
        (0, "dropped", "ben"),
    ]
    async with engine.connect() as control:
        (kept,) = await dead_letters.listed(control, dropped=True)
        assert (kept.cause, kept.state, kept.last_error) == ("update:1", "dropped", "KeyError: z")
        assert await dead_letters.listed(control) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE attempts SET error = 'x'",
        "DELETE FROM attempts",
        f"INSERT INTO attempts (bot_id, inbox_id, attempt, outcome) VALUES ({OTHER}, 1, 1, 'failed')",
        "TRUNCATE attempts",
        "SELECT * FROM botctl_internal.attempts_00",
    ],
)
async def test_a_bot_changes_no_history_and_writes_none_of_others(bots: AsyncEngine, statement: str) -> None:
    with pytest.raises(ProgrammingError, match=r"permission denied|row-level security"):
        async with bots.begin() as connection:
            await connection.exec_driver_sql(statement)


async def test_a_bot_sees_no_attempts_of_others(bots: AsyncEngine, engine: AsyncEngine) -> None:
    async with engine.begin() as control:
        await control.exec_driver_sql(
            f"INSERT INTO attempts (bot_id, inbox_id, attempt, outcome) VALUES ({OTHER}, 1, 1, 'failed')"
        )
    assert await _kept(bots) == []


async def _done_at(connection: AsyncConnection, inbox_id: int) -> Any:
    result = await connection.exec_driver_sql(
        f"SELECT done_at FROM inbox WHERE bot_id = {BOT} AND inbox_id = {inbox_id}"
    )
    return result.scalar_one()
