"""A rolling restart: forth, in waves, and back when the new code does harm."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from botctl.control.ports import BotSight
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.fleet import Fleet
from support.rolling import Pretended, old_path, roll, started


async def test_all_bots_go_over_to_the_new_generation_which_then_serves_everybody(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert [line.text for line in lines][1:] == [
        "wave 1 of 2: b1, b2 running", "wave 2 of 2: b3, b4 running", "done: 4 bots restarted",
    ]  # fmt: skip
    assert lines[-1].outcome == "done"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 2)
    assert list(supervisor.servers) == [2]
    assert code.name_of(1) not in ("", before)


async def test_a_quarantined_bot_takes_everything_back_and_the_rest_is_not_touched(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    supervisor.fresh = lambda bot: (
        replace(bot, state="quarantined", reason="can't be loaded") if bot.bot_id == 2 else bot
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].outcome == "rolled back"
    assert lines[-1].text == "rolled back: b2 is quarantined: can't be loaded"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert [bot.incarnation for bot in supervisor.bots.values()] == [3, 3, 1, 1]
    assert ("release", "b2") in supervisor.commands
    assert set(supervisor.sources.values()) == {(0, old_path(code))}, "crashes stay with the old code"
    assert list(supervisor.servers) == [1]
    assert code.name_of(1) == before


async def test_bots_whose_turn_has_not_come_are_kept_from_the_new_code(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    seen: dict[str, tuple[int, str]] = {}

    def look(bot: BotSight) -> BotSight:
        seen[bot.name] = supervisor.sources[4]
        return bot

    supervisor.fresh = look
    before = old_path(code)
    await roll(RolloutKeeper(supervisor, lambda: fleet, code), "1")
    assert seen == {"b1": (0, before), "b2": (0, before), "b3": (0, before), "b4": (2, "")}


async def test_worse_replies_take_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    for bot_id, bot in supervisor.bots.items():
        supervisor.bots[bot_id] = replace(bot, counters={"handled": 100.0})
    supervisor.fresh = lambda bot: replace(bot, counters={"handled": 2.0, "handler_failures": 4.0})
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=30)
    assert lines[-1].text == "rolled back: 8 of 12 updates were not answered (33%, 100% before)"


async def test_without_watching_replies_don_t_count(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, counters={"handler_failures": 40.0})
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code)))[-1].outcome == "done"


async def test_that_no_update_came_is_told(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4", settle=0.05)
    assert lines[1].text == "wave 1 of 1: b1, b2, b3, b4 running, no update came"
    assert lines[-1].text == "done: 4 bots restarted; no update came meanwhile, so that how they answer is not known"


async def test_a_wave_ends_early_when_every_bot_has_answered_often(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, counters={"handled": 15.0})
    async with asyncio.timeout(5):
        lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=3600)
    assert lines[1].text == "wave 1 of 2: b1, b2 running, 30 of 30 answered"


async def test_a_bot_that_does_not_come_back_takes_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="starting")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "rolled back: b1 does not come back; it is starting"


@pytest.mark.parametrize(("failures", "outcome"), [(0, "done"), (1, "done"), (2, "rolled back")])
async def test_being_recycled_is_no_harm_and_failing_is(fleet: Fleet, code: CodeKeeper, failures: int, outcome: str):
    supervisor = await started(fleet, code)

    def fresh(bot: BotSight) -> BotSight:
        if bot.bot_id == 3:  # which b1 has had no part in
            supervisor.change(1, incarnation=9, failures=failures)
        return bot

    supervisor.fresh = fresh
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].outcome == outcome
    assert ("b1 keeps failing" in lines[-1].text) == (failures == 2)


async def test_a_bot_that_waits_for_its_turn_to_start_is_taken_back_too(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: (
        replace(bot, state="configured") if bot.bot_id == 1 else replace(bot, state="quarantined", reason="it can't")
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "rolled back: b2 is quarantined: it can't"
    assert supervisor.commands == [("restart", "b1"), ("restart", "b2"), ("restart", "b1"), ("release", "b2")]


async def test_without_a_copy_of_the_old_code_that_is_said_before_anything_is_done(fleet: Fleet, code: CodeKeeper):
    supervisor = Pretended(fleet)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[0].warning
    assert lines[0].text == "the old code of b1, b2, b3, b4 can't be brought back: no copy was kept"
    assert lines[-1].outcome == "done"
