"""Who waits for a key of `bot.once` waits for a while, and never for somebody who waits for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from botctl.bot.exchange import once
from botctl.bot.exchange.once import Once, OnceBusyError
from botctl.bot.handling.scope import Scope, current


class Database:
    async def statement(self, work: Any) -> Any:
        return await work(None)


class Keys:
    """Each key is held by whoever asked first."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}

    async def take(self, connection: Any, key: str, cause: str, *, for_good: bool) -> bool:
        return self.held.setdefault(key, cause) == cause

    async def look(self, connection: Any, key: str) -> tuple[str, str]:
        return "held", self.held[key]


def made() -> Once:
    return Once(Database(), Keys())  # type: ignore[arg-type]


def within(cause: str, *keys: str, of: Once) -> asyncio.Task[list[Any]]:
    """A handling that asks for these keys side by side, and doesn't end."""

    async def handle() -> list[Any]:
        current.set(Scope(cause=cause, trace_id="t"))
        return await asyncio.gather(*(of.take(key) for key in keys), return_exceptions=True)

    return asyncio.create_task(handle())


async def test_who_waits_for_a_handling_that_does_not_end_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "PATIENCE", 0.02)
    one = made()
    assert await within("update:1", "k", of=one) == [True]
    async with asyncio.timeout(10):
        [error] = await within("update:2", "k", of=one)
    assert isinstance(error, OnceBusyError)
    assert str(error) == "the key 'k' is held by update:1, which does not end"


async def test_of_several_waits_of_one_handling_each_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Update 3 waits for 1 and for 2, which waits for 3: that comes to nothing, whichever wait came last."""
    one = made()
    for cause, key in (("update:1", "a"), ("update:2", "b"), ("update:3", "c")):
        assert await within(cause, key, of=one) == [True]
    waiting = within("update:3", "b", "a", of=one)
    for _ in range(20):
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(10):
            [error] = await within("update:2", "c", of=one)
        assert isinstance(error, OnceBusyError)
        assert str(error).startswith("two handlings wait for keys")
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
