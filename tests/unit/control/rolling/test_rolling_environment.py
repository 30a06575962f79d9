"""A rolling restart when something else is in trouble: the database, the breaker, the supervisor."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from botctl.control.ports import BotSight
from botctl.control.rollouts import environment as rollout_environment
from botctl.control.rollouts import reach as rollout_reach
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.fleet import Fleet
from support.rolling import roll, started


async def test_a_wave_waits_for_a_database_that_is_away(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    back_at = asyncio.get_running_loop().time() + 0.6  # the bots have 0.3 s to come back
    then = iter(["starting"] * 3)

    def meanwhile() -> None:
        if asyncio.get_running_loop().time() >= back_at:
            supervisor.fresh = lambda bot: bot
            state = next(then, "running")
            for bot_id in supervisor.bots:
                supervisor.change(bot_id, state=state, reason="")

    supervisor.meanwhile = meanwhile
    supervisor.fresh = lambda bot: replace(bot, state="paused", reason="database: it is away", failures=2)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert [(line.text, line.warning) for line in lines[1:4]] == [
        ("waiting: b1 and 1 more are paused: database: it is away", True),
        ("going on", False),
        ("wave 1 of 2: b1, b2 running", False),
    ]
    assert lines[-1].outcome == "done"


async def test_a_database_that_stays_away_ends_it_without_a_word_against_the_code(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_environment, "PATIENCE", 0.05)
    supervisor = await started(fleet, code)

    def meanwhile() -> None:
        if supervisor.commands:
            for bot_id in (1, 2):
                supervisor.change(bot_id, state="paused", reason="database: it is away")

    supervisor.meanwhile = meanwhile
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == (
        "rolled back: b1 and 1 more are paused: database: it is away, for 0.05 s; nothing is known against the code; "
        "these are paused: b1, b2"
    )
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)


async def test_no_wave_begins_while_the_breaker_holds_restarts_back(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_environment, "PATIENCE", 0.05)
    supervisor = await started(fleet, code)
    supervisor.breaker = "many bots failed"
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == ("nothing was restarted: many bots failed, for 0.05 s; nothing is known against the code")
    assert supervisor.commands == []
    assert list(supervisor.servers) == [1]


@pytest.mark.parametrize(("others", "outcome"), [(True, "done"), (False, "rolled back")])
async def test_failures_under_the_breaker_count_unless_old_code_fails_too(
    fleet: Fleet, code: CodeKeeper, others: bool, outcome: str
):
    supervisor = await started(fleet, code)
    looks = 0

    def meanwhile() -> None:
        nonlocal looks
        if supervisor.bots[1].forkserver != 2 or looks >= 6:
            return
        looks += 1
        for bot_id in (1, 2, *((3, 4) if others else ())):
            failed = {"last_failure": "crash", "last_failure_at": float(looks), "failures": looks}
            supervisor.change(bot_id, state="backoff", reason="it broke", **failed)
        supervisor.breaker = "many bots failed"
        if looks == 6:
            supervisor.breaker = ""
            for bot_id in supervisor.bots:
                supervisor.change(bot_id, state="running")

    supervisor.meanwhile = meanwhile
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[1].text == "waiting: many bots failed"
    assert lines[-1].outcome == outcome
    assert ("keeps failing (crash)" in lines[-1].text) is not others


async def test_a_supervisor_that_falls_silent_ends_it_with_a_word(
    fleet: Fleet, code: CodeKeeper, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollout_reach, "_PATIENCE", 0.0)
    supervisor = await started(fleet, code)

    def fall_silent(bot: BotSight) -> BotSight:
        supervisor.silent = True
        return bot

    supervisor.fresh = fall_silent
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "it could not be rolled back: the supervisor does not answer"
    assert lines[-1].outcome == "failed"
