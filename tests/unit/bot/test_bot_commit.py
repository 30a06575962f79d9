"""What is published while the end of a handling is being committed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from botctl.bot.context import BotContext
from botctl.bot.exchange.declared import DeclaredTypes
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.commit import Committer
from botctl.bot.handling.scope import Scope, current
from botctl.bot.keeping.memory import KeptMemory
from botctl.bot.vitals.health import Health
from botctl.storage.outbox import StoredEvent


class Database:
    """Holds a transaction open between its work and its commit; what it stores counts once that is done."""

    def __init__(self) -> None:
        self.worked = asyncio.Event()
        self.commit = asyncio.Event()
        self.stored: list[str] = []
        self.broken = False
        self.times = 1

    async def add(self, connection: Any, events: Any) -> None:
        connection.extend(event.type for event in events)

    async def transaction(self, work: Any) -> Any:
        written: list[str] = []
        for _ in range(self.times):
            result = await work(written)
        self.worked.set()
        await self.commit.wait()
        if self.broken:
            raise ValueError("refused")
        self.stored += written
        return result

    async def statement(self, work: Any) -> None:
        written: list[str] = []
        await work(written)
        self.stored += written


class Sends:
    """One call of the cause was begun, and nothing of it is ever committed."""

    async def abandon_of_cause(self, connection: Any, cause: str, reason: str) -> int:
        return 1

    async def leave(self, connection: Any, sends: Any, cause: str, reason: str) -> int:
        return 1


class Inbox:
    async def done(self, connection: Any, inbox_id: int) -> None:
        """Nothing is kept."""

    async def dead(self, connection: Any, inbox_id: int, reason: str, **kept: Any) -> None:
        """Nothing is kept."""


class Stage:
    """A handling whose own event is `order.first`, and a task it has started."""

    def __init__(self) -> None:
        self.database = Database()
        publisher = Publisher(1, cast("Any", self.database), (), lambda: 1.0)
        nobody, sends = cast("Any", None), cast("Any", Sends())
        self.health = Health()
        self.committer = Committer(
            cast("Any", self.database), cast("Any", Inbox()), sends, nobody, nobody, publisher, sends, self.health,
            KeptMemory(cast("Any", self.database), nobody), lambda: None,
        )  # fmt: skip
        self.context = object.__new__(BotContext)
        self.context._database = cast("Any", self.database)
        self.context._publisher = publisher
        self.context._declared = DeclaredTypes()
        self.context._wake = lambda: None
        self.scope = Scope(cause="update:1", trace_id="t")
        first = publisher.custom(self.scope, "order.first", {}, 1)
        self.scope.events.append(cast("StoredEvent", first))

    async def publish(self, event_type: str) -> None:
        """As a task does that the handler has started."""
        current.set(self.scope)
        await self.context.publish(event_type)


@pytest.mark.parametrize("end", ["finish", "bury"])
async def test_what_a_task_publishes_in_the_middle_of_the_commit_is_not_lost(end: str) -> None:
    stage = Stage()
    ending = asyncio.create_task(
        stage.committer.finish(stage.scope)
        if end == "finish"
        else stage.committer.bury(stage.scope, ValueError("x"), "x")  # type: ignore[arg-type]
    )
    await stage.database.worked.wait()
    await asyncio.create_task(stage.publish("order.second"))
    stage.database.commit.set()
    await ending
    assert "order.second" in stage.database.stored
    assert stage.database.stored[-1] == ("order.first" if end == "finish" else "handler.failed")
    await asyncio.create_task(stage.publish("order.third"))
    assert stage.database.stored[-1] == "order.third"


async def test_a_commit_that_fails_leaves_the_handling_open() -> None:
    stage = Stage()
    stage.database.broken = True
    stage.database.commit.set()
    with pytest.raises(ValueError, match="refused"):
        await stage.committer.finish(stage.scope)
    assert not stage.scope.closed
    await asyncio.create_task(stage.publish("order.second"))
    assert [event.type for event in stage.scope.events] == ["order.first", "order.second"]
    assert stage.database.stored == []


@pytest.mark.parametrize("end", ["finish", "bury"])
async def test_what_is_uncertain_is_counted_once_however_often_the_commit_is_made(end: str) -> None:
    stage = Stage()
    stage.database.times = 3
    stage.database.commit.set()
    stage.scope.journal.open.add(0)
    await (
        stage.committer.finish(stage.scope) if end == "finish" else stage.committer.bury(stage.scope, ValueError(), "x")
    )
    assert stage.health.counters["sends_uncertain"] == 1
