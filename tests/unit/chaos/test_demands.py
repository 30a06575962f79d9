"""The demands of a chaos run can be broken: a witness that is touched, a death told wrongly, an answer too few."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from botctl.cli.chaos.account import Message
from chaos import plan
from chaos.faults import FAULTS
from chaos.outcome import Outcome, judge
from chaos.report import Result, markdown
from chaos.watch import Watch

WELL = {"name": "one", "state": "running", "reason": "", "pid": 10, "restarts": 0, "last_failure": None}


def sight(**changes: Any) -> dict[str, Any]:
    return {**WELL, "heartbeat_age_s": 1.0, **changes}


class FakeWatch(Watch):
    """Sees what it is given."""

    seen: dict[str, Any] | None = None

    async def get(self, path: str) -> Any:
        return {"bots": [self.seen]} if self.seen is not None else None


async def looked(tmp_path: Path, *seen: dict[str, Any] | None, harmed: bool = False, victim: bool = False) -> list[str]:
    watch = FakeWatch(SimpleNamespace(data=tmp_path), ["one"], 5.0)
    if victim:
        watch.take_as_victim(0, "kill")
    try:
        for body in seen:
            watch.seen = body
            if harmed:
                with watch.harmed(bots_need_it=True):
                    await watch.look()
            else:
                await watch.look()
    finally:
        await watch.close()
    return watch.violations


async def test_a_witness_that_stays_as_it_was_is_no_matter(tmp_path: Path) -> None:
    assert await looked(tmp_path, sight(), sight(heartbeat_age_s=4.9), None) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": 11},
        {"restarts": 1},
        {"state": "backoff"},
        {"state": "quarantined"},
        {"state": "degraded"},
        {"heartbeat_age_s": 6.5},
        {"heartbeat_age_s": None},
    ],
)
async def test_a_witness_that_is_touched_is_noticed(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert await looked(tmp_path, sight(), sight(**changed))
    assert not await looked(tmp_path, sight(), sight(**changed), victim=True)


async def test_without_its_servers_a_witness_may_pause_and_nothing_more(tmp_path: Path) -> None:
    assert await looked(tmp_path, sight(), sight(state="paused"), harmed=True) == []
    assert await looked(tmp_path, sight(), sight(pid=11), harmed=True)
    assert await looked(tmp_path, sight(), sight(state="backoff", pid=None), harmed=True)


def judged(name: str, *deaths: dict[str, Any], after: int = 11) -> list[str]:
    outcome = Outcome(plan.Step(1, FAULTS[name], 0, 0.0), began=0.0, sound=1.0)
    outcome.deaths = [{"stacks": "", "cause": "", "exit": "signal 9", **death} for death in deaths]
    judge(outcome, {"pid": 10}, {"pid": after})
    return outcome.violations


def test_deaths_are_to_be_told_as_what_they_were() -> None:
    assert judged("kill", {"failure": "signal"}) == []
    assert judged("kill")
    assert judged("kill", {"failure": "crash"})
    assert judged("kill", {"failure": "signal"}, {"failure": "hang"})
    assert judged("kill", {"failure": "signal", "exit": "exit 1"})
    assert judged("block_c", {"failure": "hang", "stacks": "… in backtrack"}) == []
    assert judged("block_c", {"failure": "hang", "stacks": "… in sleep"})
    assert judged("stop", {"failure": "hang", "cause": "no heartbeat"})
    assert judged("bad_code", {"failure": "signal"}, {"failure": "code"}) == []
    assert judged("descriptors", after=10) == []
    assert judged("descriptors", after=11)


def test_the_report_counts_what_is_lost_and_what_came_twice() -> None:
    result = Result(seed=1, ids=[1], calm=(0.0, 10.0), chaos=(10.0, 20.0))
    result.messages = [
        Message(1, 1, 1, 1.0, answers=[1.1]),
        Message(2, 1, 1, 11.0, answers=[11.5, 12.0]),
        Message(3, 1, 1, 12.0),
        Message(4, 1, 1, 13.0, expects="none"),
    ]
    assert (result.lost, result.extra) == (1, 1)
    assert "4 sent, 2 answered, 1 lost, 1 answers too many" in markdown(result)


def test_heavy_faults_on_one_bot_are_far_apart() -> None:
    for seed in range(20):
        last: dict[int | None, int] = {}
        for step in plan.draw(seed, 20, 400, pause=1.0):
            if step.fault.name in plan.HEAVY:
                assert step.number - last.get(step.victim, -100) > 40
                last[step.victim] = step.number
