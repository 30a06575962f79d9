"""Rolling restarts beside operators: what is left alone, aborting, starting by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from botctl.control.fleet.starts import Starts
from botctl.control.ports import BotSight, ForkserverSight
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.rollouts.rules import WaveSize
from botctl.errors import BotctlError, RefusedError
from botctl.fleet import Fleet
from support.rolling import old_path, roll, started, until_restarted


async def test_stopped_and_quarantined_bots_are_left_alone(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.bots[1] = replace(supervisor.bots[1], state="stopped", wanted=False)
    supervisor.bots[2] = replace(supervisor.bots[2], state="quarantined")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "done: 2 bots restarted"
    assert {name for _, name in supervisor.commands} == {"b3", "b4"}
    for bot_id in (3, 4):
        supervisor.bots[bot_id] = replace(supervisor.bots[bot_id], state="stopped", wanted=False)
    with pytest.raises(BotctlError, match="no bot runs"):
        await RolloutKeeper(supervisor, lambda: fleet, code).begin(WaveSize.parse("1"), settle=None)


async def test_a_bot_that_an_operator_stops_meanwhile_stays_stopped(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    stopped = {"state": "stopped", "wanted": False}
    supervisor.fresh = lambda bot: (
        replace(bot, **stopped) if bot.bot_id == 1 else replace(bot, state="quarantined") if bot.bot_id == 3 else bot
    )
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].outcome == "rolled back"
    assert supervisor.bots[1].state == "stopped"
    assert supervisor.commands.count(("restart", "b1")) == 1


@pytest.mark.parametrize("state", ["quarantined", "stopping"])
async def test_a_bot_that_is_shut_away_on_purpose_meanwhile_is_left_alone(fleet: Fleet, code: CodeKeeper, state: str):
    supervisor = await started(fleet, code)
    shut_away = {"state": state, "shut_away": True, "reason": "taken over"}

    def shut_b1_away(bot: BotSight) -> BotSight:
        if bot.bot_id == 3:
            supervisor.bots[1] = replace(supervisor.bots[1], **shut_away)
        return replace(bot, state="quarantined", reason="can't be loaded") if bot.bot_id == 4 else bot

    supervisor.fresh = shut_b1_away
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].text == "rolled back: b4 is quarantined: can't be loaded"
    assert lines[-1].outcome == "rolled back"
    assert supervisor.bots[1].shut_away
    assert [verb for verb, name in supervisor.commands if name == "b1"] == ["restart"]
    assert supervisor.commands[-1] == ("release", "b4")


async def test_shutting_a_bot_away_is_no_harm_and_it_has_no_turn(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)

    def shut_away(bot: BotSight) -> BotSight:
        if bot.bot_id == 1:
            supervisor.bots[4] = replace(supervisor.bots[4], state="stopping", shut_away=True)
            return replace(bot, state="quarantined", shut_away=True)
        return bot

    supervisor.fresh = shut_away
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), settle=0.02)
    assert lines[-1].outcome == "done"
    assert {name for _, name in supervisor.commands} == {"b1", "b2", "b3"}


async def test_only_one_at_a_time_and_an_abort_takes_it_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    with pytest.raises(RefusedError):
        keeper.abort()
    await keeper.begin(WaveSize.parse("1"), settle=3600)
    lines = keeper.follow()
    await anext(lines)
    await until_restarted(supervisor, 1)
    with pytest.raises(RefusedError, match="under way"):
        await keeper.begin(WaveSize.parse("1"), settle=None)
    with pytest.raises(RefusedError, match="under way"):
        keeper.refuse_beside("a reload")
    keeper.abort()
    rest = [line async for line in lines]
    assert rest[-1].text == "rolled back: aborted by operator"
    assert not keeper.running
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert [line.text async for line in keeper.follow()][-1] == rest[-1].text, "whoever comes late is told too"


async def test_an_abort_before_the_first_wave_has_nothing_to_take_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.preloaded = ForkserverSight(generation=0, state="starting")
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("1"), settle=None)
    lines = keeper.follow()
    await anext(lines)
    keeper.abort()
    rest = [line async for line in lines]
    assert (rest[-1].text, rest[-1].outcome) == ("nothing was restarted: aborted by operator", "rolled back")


async def test_an_abort_after_the_promotion_is_refused(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    promoted, go_on = asyncio.Event(), asyncio.Event()
    real = supervisor.generation

    async def generation(verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb == "retire":
            promoted.set()
            await go_on.wait()
        return await real(verb, number)

    supervisor.generation = generation  # type: ignore[method-assign]
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("4"), settle=None)
    await asyncio.wait_for(promoted.wait(), 5)
    with pytest.raises(RefusedError, match="is done"):
        keeper.abort()
    go_on.set()
    assert [line async for line in keeper.follow()][-1].outcome == "done"


async def test_an_operators_start_takes_what_stands_on_disk(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    starts = Starts(supervisor, lambda: fleet, code)
    old = code.name_of(1)
    supervisor.sources = dict.fromkeys(supervisor.bots, (0, old_path(code)))
    supervisor.bots[2] = replace(supervisor.bots[2], state="stopped", pid=None)
    supervisor.bots[3] = replace(supervisor.bots[3], state="quarantined")
    supervisor.bots[4] = replace(supervisor.bots[4], pid=44)
    sight = await supervisor.sight()
    await starts.by_command("restart", "b3", sight)  # which is refused
    assert (supervisor.sources[3], code.name_of(3)) == ((0, code.path_of(old)), old)
    for verb, name, fresh in (("restart", "b1", 1), ("start", "b2", 2), ("release", "b3", 3)):
        await starts.by_command(verb, name, sight)
        assert supervisor.sources[fresh] == (0, "")
        assert code.name_of(fresh) != old
    for verb, name in (("start", "b4"), ("release", "b4")):
        await starts.by_command(verb, name, sight)
    assert supervisor.sources[4] == (0, code.path_of(old))
    assert code.name_of(4) == old
