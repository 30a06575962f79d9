"""Whoever waits for a commit is served, whenever it comes and whatever becomes of those before it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from botctl.bot import group_commit
from botctl.bot.group_commit import GroupCommit


class WithoutDatabase(GroupCommit):
    """Does the work, and commits nothing."""

    def __init__(self) -> None:
        engine: Any = None
        super().__init__(engine)

    async def _together(self, group: Any) -> list[Any]:
        return [await item.work(None) for item in group]


@pytest.mark.parametrize("later", range(8))
async def test_work_that_comes_while_a_server_ends_is_done(later: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else may come for half a minute, so that it would wait for as long."""
    monkeypatch.setattr(group_commit, "AT_ONCE", 1)
    groups = WithoutDatabase()

    async def work(_: Any) -> int:
        return later

    assert await groups.run(work) == later
    for _ in range(later):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await groups.run(work) == later
    await groups.close()


async def test_a_server_that_breaks_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "AT_ONCE", 1)
    monkeypatch.setattr(group_commit, "MOST", 1)
    groups = WithoutDatabase()

    async def breaks(_: Any) -> None:
        raise asyncio.CancelledError

    async def work(_: Any) -> int:
        return 1

    async with asyncio.timeout(5):
        broken, done = await asyncio.gather(groups.run(breaks), groups.run(work), return_exceptions=True)
    assert isinstance(broken, asyncio.CancelledError)
    assert done == 1
    await groups.close()
