"""What the next `control` makes of a rolling restart that was left half done."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from botctl.control.ports import ForkserverSight
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.control.rollouts.rules import WaveSize
from botctl.fleet import Fleet
from support.rolling import old_path, started, until_restarted


async def test_the_next_control_takes_back_what_was_left_half_done(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("2"), settle=3600)
    await until_restarted(supervisor, 2)
    await keeper.close()
    heir = RolloutKeeper(supervisor, lambda: fleet, CodeKeeper(Path(str(fleet.folder)) / "data" / "code"))
    await heir.recover()
    lines = [line async for line in heir.follow()]
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert set(supervisor.sources.values()) == {(0, old_path(code))}
    assert list(supervisor.servers) == [1]
    await heir.recover()
    assert not heir.running, "nothing is left to take back"


async def test_the_next_control_also_takes_back_whom_the_new_code_has_quarantined(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.servers[2] = ForkserverSight(generation=2, state="ready")
    supervisor.assign([1, 2, 3], 2, {})
    gone = {"state": "quarantined", "incarnation": 2, "forkserver": 0}
    supervisor.bots[1] = replace(supervisor.bots[1], **gone, reason="can't be loaded")
    supervisor.bots[2] = replace(supervisor.bots[2], incarnation=2, forkserver=2)
    supervisor.bots[3] = replace(supervisor.bots[3], **gone, shut_away=True)
    supervisor.bots[4] = replace(supervisor.bots[4], state="backoff", forkserver=0)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.recover()
    lines = [line async for line in keeper.follow()]
    assert lines[0].text.startswith("rolling back b1, b2: ")
    assert lines[-1].outcome == "rolled back"
    assert supervisor.commands == [("release", "b1"), ("restart", "b2")]
    assert supervisor.forkservers() == {"b1": 1, "b2": 1, "b3": 0, "b4": 0}
    assert set(supervisor.sources.values()) == {(0, old_path(code))}


async def test_a_way_back_that_is_broken_off_is_gone_to_its_end_by_the_next_control(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="quarantined", reason="can't be loaded")
    broken_off = asyncio.Event()
    obeyed = supervisor.command

    async def command(verb: str, name: str = "", reason: str = "") -> tuple[bool, str]:
        answer = await obeyed(verb, name, reason)
        if verb == "release":
            broken_off.set()
            await asyncio.Event().wait()
        return answer

    supervisor.command = command  # type: ignore[method-assign]
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.begin(WaveSize.parse("3"), settle=None)
    await asyncio.wait_for(broken_off.wait(), 5)
    await keeper.close()
    supervisor.command = obeyed  # type: ignore[method-assign]
    heir = RolloutKeeper(supervisor, lambda: fleet, code)
    await heir.recover()
    lines = [line async for line in heir.follow()]
    assert lines[-1].outcome == "rolled back"
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), 1)
    assert {bot.state for bot in supervisor.bots.values()} == {"running"}


async def test_the_next_control_only_ends_the_old_generation_after_a_promotion(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    before = code.name_of(1)
    supervisor.servers = {
        1: ForkserverSight(generation=1, state="ready"),
        2: ForkserverSight(generation=2, state="ready", promoted=True),
    }
    for bot_id in (1, 2, 3):
        supervisor.bots[bot_id] = replace(supervisor.bots[bot_id], incarnation=2, forkserver=2)
    supervisor.bots[3] = replace(supervisor.bots[3], state="backoff", forkserver=0)
    keeper = RolloutKeeper(supervisor, lambda: fleet, code)
    await keeper.recover()
    lines = [line async for line in keeper.follow()]
    assert [(line.text, line.outcome) for line in lines] == [
        ("done: the control process ended after every bot was restarted, and the next one has cleared up", "done")
    ]
    assert supervisor.commands == []
    assert list(supervisor.servers) == [2]
    assert set(supervisor.sources.values()) == {(0, "")}
    assert code.name_of(1) not in ("", before), "the next rollback would come back to what runs now"
