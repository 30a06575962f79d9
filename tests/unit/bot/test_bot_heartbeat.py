"""How often a bot says how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from botctl.bot.vitals.health import Health, Trouble
from botctl.bot.vitals.heartbeat import BUSY_EVERY, CLOSEST, IDLE_EVERY, Heartbeat


def heartbeat(health: Health, report: Callable[[dict[str, float]], None], timeout: float = 60.0) -> Heartbeat:
    nobody = cast("Any", None)
    return Heartbeat(
        nobody, nobody, nobody, health, gauges=dict, must_ask=lambda: False, report=report, timeout=timeout
    )


@pytest.mark.parametrize(
    ("timeout", "gauges", "handled", "pause"),
    [
        (60.0, {}, 0, IDLE_EVERY),
        (60.0, {}, 1, BUSY_EVERY),
        (60.0, {"inbox_depth": 3.0}, 0, BUSY_EVERY),
        (60.0, {"lanes": 1.0}, 0, BUSY_EVERY),
        (6.0, {}, 0, 2.0),
        (1.5, {}, 0, 0.5),
        (1.5, {}, 1, 0.5),
        (0.1, {}, 0, 2 * CLOSEST),
    ],
)
def test_an_idle_bot_beats_less_often_and_never_too_late(timeout, gauges, handled, pause):
    health = Health()
    beat = heartbeat(health, lambda _: None, timeout)
    beat._pause({})
    health.count("handled", handled)
    assert beat._pause(gauges) == pause


async def test_a_change_of_health_is_told_at_once():
    health, first, told = Health(), asyncio.Event(), asyncio.Event()

    def report(_: dict[str, float]) -> None:
        first.set()
        if health.paused:
            told.set()

    task = asyncio.create_task(heartbeat(health, report).run())
    try:
        async with asyncio.timeout(1.0):
            await first.wait()
            health.trouble(Trouble.DATABASE, "database")
            await told.wait()
        for _ in range(100):
            health.trouble(Trouble.DATABASE, "database")
        assert not health.changed.is_set(), "the same trouble again is no change"
    finally:
        task.cancel()
