"""When a MemoryError means that the whole bot is at its limit."""

from __future__ import annotations

import asyncio

import pytest

from botctl.bot.vitals.own_memory import own_memory
from botctl.bot.vitals.shortage import Shortage, ShortageError, shortage_of

MB = 1_000_000


def met_with(used: int, limit: int, error: BaseException | None = None) -> bool:
    return Shortage(lambda: used, lambda: limit).met(error or MemoryError())


@pytest.mark.parametrize(
    ("used", "limit", "at_its_limit"),
    [(99 * MB, 100 * MB, True), (80 * MB, 100 * MB, True), (79 * MB, 100 * MB, False), (99 * MB, 0, False)],
)
def test_it_is_the_bots_trouble_only_near_its_limit(used: int, limit: int, at_its_limit: bool) -> None:
    assert met_with(used, limit) is at_its_limit


def test_another_error_is_never_a_shortage() -> None:
    assert not met_with(99 * MB, 100 * MB, ValueError("no"))


def test_what_the_failed_attempt_held_is_given_back_before_it_is_judged() -> None:
    def attempt() -> None:
        held = bytearray(200 * MB)
        raise MemoryError(len(held))

    before = own_memory.data()
    limit = (before + 100 * MB) * 5 // 4
    with pytest.raises(MemoryError) as caught:
        attempt()
    assert own_memory.data() > before + 150 * MB
    assert not Shortage(limit=lambda: limit).met(caught.value)


async def test_who_watches_is_told_how_much_of_what_limit_and_where() -> None:
    shortage = Shortage(lambda: 99 * MB, lambda: 100 * MB)
    watching = asyncio.create_task(shortage.watch())
    await asyncio.sleep(0)
    assert not watching.done()
    with pytest.raises(MemoryError) as caught:
        raise MemoryError
    assert shortage.met(caught.value)
    with pytest.raises(ShortageError, match=r"99 MB taken, 100 MB allowed \(.*test_bot_shortage\.py:\d+\)"):
        await watching


def test_an_error_of_the_bots_own_tasks_says_how_much_there_was() -> None:
    assert "it could get no more memory: " in str(shortage_of(MemoryError()))
