"""Replies of other bots on their way into the table of requests."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from botctl.bot.exchange.asking import Asking
from botctl.bot.vitals.health import Health
from botctl.bus.events import Event
from botctl.storage.requests import StoredReply


class Database:
    async def statement(self, work: Any) -> Any:
        return await work(None)


class Requests:
    """Refuses each batch with the reply `bad` in it."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error
        self.stored: list[str] = []

    async def answer(self, connection: Any, replies: list[StoredReply]) -> frozenset[str]:
        if any(one.request_id == "bad" for one in replies):
            raise self.error("refused")
        self.stored += [one.request_id for one in replies]
        return frozenset(one.request_id for one in replies)

    async def find(self, connection: Any, ids: list[str]) -> dict[str, Any]:
        return {}


def asking(requests: Requests) -> Asking:
    nothing: Any = None
    return Asking(
        Database(), requests, nothing, nothing, nothing, Health(), nothing,  # type: ignore[arg-type]
        wake=nothing, listen=nothing, changed=nothing, now=nothing,
    )  # fmt: skip


REPLIES = [
    Event(id=f"e-{name}", type="a.b", source="bot:1", occurred_at=1, to="bot:2", reply_to=name)
    for name in ("one", "bad", "two")
]


async def test_a_reply_that_the_database_refuses_keeps_no_other_out() -> None:
    requests = Requests(asyncpg.CharacterNotInRepertoireError)
    await asking(requests).take(REPLIES)
    assert requests.stored == ["one", "two"]


async def test_what_is_the_databases_own_trouble_leaves_no_reply_out() -> None:
    requests = Requests(asyncpg.InsufficientPrivilegeError)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asking(requests).take(REPLIES)
    assert requests.stored == []
