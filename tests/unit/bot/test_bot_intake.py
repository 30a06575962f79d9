"""What is stored gets into the lanes, even when the answer to the INSERT was lost after its commit."""

from __future__ import annotations

from typing import Any

from botctl.bot.intake import Intake
from botctl.bot.lanes import Lanes
from botctl.storage.inbox import InboxRow, NewRow


class FakeInbox:
    def __init__(self) -> None:
        self.rows: dict[str, InboxRow] = {}

    async def add(self, connection: Any, rows: list[NewRow]) -> dict[str, int]:
        new = {}
        for row in rows:
            if row.cause not in self.rows:
                new[row.cause] = number = len(self.rows) + 1
                self.rows[row.cause] = InboxRow(number, row.cause, row.kind, row.lane, row.payload, row.trace_id)
        return new

    async def waiting(self, connection: Any, after: int, limit: int) -> list[InboxRow]:
        return [row for row in self.rows.values() if row.inbox_id > after][:limit]


class FakeDatabase:
    """Does work twice, as when the connection is lost after the commit, while `loses` is set."""

    loses = False

    async def statement(self, work: Any) -> Any:
        if self.loses:
            await work(None)
        return await work(None)


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
    await intake.refill()
    taken = []
    while (row := lanes.take(1.0)) is not None:
        taken.append(row.cause)
        lanes.release(row.lane, 1.0)
    assert taken == ["update:1", "update:2", "update:3", "update:4"]
