"""What is stored gets into the lanes, even when the answer to the INSERT was lost after its commit."""

from __future__ import annotations

import dataclasses
from typing import Any

import asyncpg
import pytest

from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.lanes import Lanes
from botctl.storage.inbox import InboxRow, NewRow, Stored
from botctl.storage.updates import read_update


class FakeInbox:
    def __init__(self) -> None:
        self.rows: dict[str, InboxRow] = {}
        self.done: list[str] = []

    async def store(self, connection: Any, rows: list[NewRow]) -> dict[str, Stored]:
        last = {row.lane: row.inbox_id for row in self.rows.values()}
        new = {}
        for row in rows:
            if row.cause not in self.rows:
                number = len(self.rows) + 1
                new[row.cause] = Stored(number, last.get(row.lane))
                self.rows[row.cause] = InboxRow(number, row.cause, row.kind, row.lane, row.payload, row.trace_id)
        return new

    async def known(self, connection: Any, causes: list[str]) -> dict[str, tuple[str, str]]:
        return {cause: (self.rows[cause].kind, self.rows[cause].payload) for cause in causes}

    async def waiting(self, connection: Any, limit: int, known: list[int], full: dict[str, int]) -> list[InboxRow]:
        return [
            row
            for row in self.rows.values()
            if row.inbox_id not in known and (row.lane not in full or row.inbox_id < full[row.lane])
        ][:limit]

    async def waiting_in_lane(self, connection: Any, lane: str, limit: int, without: list[int]) -> list[InboxRow]:
        rows = [row for row in self.rows.values() if row.lane == lane and row.inbox_id not in without]
        return [row for row in rows if row.cause not in self.done][:limit]


class FakeDatabase:
    """Does work twice, as when the connection is lost after the commit, while `loses` is set."""

    loses = False

    async def statement(self, work: Any) -> Any:
        if self.loses:
            await work(None)
        return await work(None)

    read = urgent = statement


def new_row(number: int) -> NewRow:
    return NewRow(f"update:{number}", number, "message", "chat:1", "{}", "t")


async def test_rows_whose_commit_was_not_confirmed_are_handled_in_their_order() -> None:
    database: Any = FakeDatabase()
    inbox: Any = FakeInbox()
    lanes = Lanes()
    intake = Intake(database, inbox, lanes, lambda: None, lambda: 1.0)
    await intake.refill()
    await intake.store([new_row(1)])
    database.loses = True
    await intake.store([new_row(2), new_row(3)])
    database.loses = False
    await intake.store([new_row(4)])
    assert intake.wants_refill
    taken = inbox.done
    while intake.wants_refill:
        await intake.refill()
        while (row := lanes.take(1.0)) is not None:
            taken.append(row.cause)
            lanes.release(row.lane, 1.0)
    assert taken == ["update:1", "update:2", "update:3", "update:4"]


class RefusingDatabase:
    """Refuses rows for the reason it is given, each as often as it comes."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.stored: list[NewRow] = []

    async def urgent(self, work: Any) -> Any:
        return await work(self)


class RefusingInbox:
    async def store(self, connection: RefusingDatabase, rows: list[NewRow]) -> dict[str, Stored]:
        if any(row.dead is None and row.cause == "update:2" for row in rows):
            raise connection.error
        connection.stored += rows
        return {row.cause: Stored(len(connection.stored), None) for row in rows}


async def test_a_row_whose_data_are_refused_becomes_a_dead_letter_and_keeps_nobody_out() -> None:
    database: Any = RefusingDatabase(asyncpg.UntranslatableCharacterError("no NUL"))
    inbox: Any = RefusingInbox()
    intake = Intake(database, inbox, Lanes(), lambda: None, lambda: 1.0)
    assert await intake.store([new_row(1), new_row(2), new_row(3)]) == {"update:1", "update:2", "update:3"}
    assert [row.dead is not None for row in database.stored] == [False, True, False]


@pytest.mark.parametrize("error", [asyncpg.InsufficientPrivilegeError("no rights"), MemoryError()])
async def test_rows_that_are_refused_for_another_reason_are_not_taken(error: Exception) -> None:
    database: Any = RefusingDatabase(error)
    inbox: Any = RefusingInbox()
    intake = Intake(database, inbox, Lanes(), lambda: None, lambda: 1.0)
    with pytest.raises(type(error)):
        await intake.store([new_row(1), new_row(2)])  # so Telegram is not told that they were received
    assert database.stored == []


def said(number: int, text: str, message_id: int) -> NewRow:
    payload = (
        f'{{"update_id":{number},"message":{{"message_id":{message_id},"date":5,"chat":{{"id":1}},"text":"{text}"}}}}'
    )
    return NewRow(f"update:{number}", number, "message", "chat:1", payload, "t")


async def test_another_update_of_a_known_number_is_kept_once_and_a_repeat_is_not() -> None:
    database: Any = FakeDatabase()
    inbox: Any = FakeInbox()
    intake = Intake(database, inbox, Lanes(), lambda: None, lambda: 1.0)
    await intake.store([said(1, "before the quiet week", 10), said(2, "as well", 11)])
    assert await intake.store([said(1, "before the quiet week", 10)]) == set()
    fresh = await intake.store([said(1, "numbers begin anew", 12), said(2, "as well", 11), said(3, "more", 13)])
    assert len(fresh) == 2
    assert await intake.store([said(1, "numbers begin anew", 12), said(3, "more", 13)]) == set()
    texts = [row.payload.split('"text":')[1] for row in inbox.rows.values()]
    assert sorted(texts) == ['"as well"}}', '"before the quiet week"}}', '"more"}}', '"numbers begin anew"}}']


async def test_whatever_has_the_number_of_another_update_is_kept() -> None:
    database: Any = FakeDatabase()
    inbox: Any = FakeInbox()
    intake = Intake(database, inbox, Lanes(), lambda: None, lambda: 1.0)
    unreadable = read_update(b'{"update_id":1,"message":{"text":"cut', "t")
    assert len(await intake.store([said(1, "first", 10), said(1, "at once with it", 11), said(1, "first", 10)])) == 2
    assert len(await intake.store([unreadable])) == 1
    assert await intake.store([unreadable, said(1, "first", 10)]) == set()
    inbox.rows["update:1"] = dataclasses.replace(inbox.rows["update:1"], payload="")  # its key is lost
    assert len(await intake.store([said(1, "later", 12)])) == 1
    assert len(inbox.rows) == 4
