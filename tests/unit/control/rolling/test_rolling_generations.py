"""Generations of the forkserver that can't start, aren't ended, or of which no answer comes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from botctl.control.ports import ForkserverSight
from botctl.control.rollouts.code_keeper import CodeKeeper
from botctl.control.rollouts.keeper import RolloutKeeper
from botctl.fleet import Fleet
from support.rolling import Pretended, roll, started


async def test_a_generation_that_can_not_start_changes_nothing(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.preloaded = ForkserverSight(generation=0, state="failed", error="SyntaxError: oh")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert lines[-1].text == "nothing was restarted: the new generation can't start: SyntaxError: oh"
    assert lines[-1].outcome == "rolled back", "all is as it was"
    assert supervisor.commands == []
    assert list(supervisor.servers) == [1]
    assert set(supervisor.sources.values()) == {(0, "")}


class Unanswered:
    """A supervisor that does not answer one verb about generations, the first `times`; it `obeys` all the same."""

    def __init__(self, supervisor: Pretended, verb: str, *, times: int = 1000, obeys: bool = False) -> None:
        self.asked = 0
        self._verb, self._times, self._obeys = verb, times, obeys
        self._real = supervisor.generation
        supervisor.generation = self  # type: ignore[assignment]

    async def __call__(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        if verb != self._verb:
            return await self._real(verb, number)
        self.asked += 1
        if self.asked > self._times:
            return await self._real(verb, number)
        if self._obeys:
            await self._real(verb, number)
        raise TimeoutError


async def test_what_fails_after_the_promotion_does_not_take_a_finished_rollout_back(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    silence = Unanswered(supervisor, "retire")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert [line.warning for line in lines[-2:]] == [True, False]
    assert lines[-2].text == (
        "generation 1 of the forkserver could not be ended: the supervisor does not answer; "
        "the next rolling restart ends it"
    )
    assert (lines[-1].text, lines[-1].outcome) == ("done: 4 bots restarted", "done")
    assert silence.asked > 1, "tried again"
    assert [bot.incarnation for bot in supervisor.bots.values()] == [2, 2, 2, 2]
    assert supervisor.servers[2].promoted


async def test_a_new_generation_that_is_not_ended_does_not_make_a_rollback_fail(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    supervisor.fresh = lambda bot: replace(bot, state="quarantined", reason="it can't")
    Unanswered(supervisor, "retire")
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code))
    assert "generation 2 of the forkserver could not be ended" in lines[-2].text
    assert (lines[-1].text, lines[-1].outcome) == ("rolled back: b1 is quarantined: it can't", "rolled back")


async def test_an_old_generation_that_is_not_ended_at_once_is_ended_later(fleet: Fleet, code: CodeKeeper):
    supervisor = await started(fleet, code)
    Unanswered(supervisor, "retire", times=1)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert not any(line.warning for line in lines)
    assert list(supervisor.servers) == [2]
    Unanswered(supervisor, "retire", times=3)
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4"))[-1].outcome == "done"
    assert list(supervisor.servers) == [2, 3]
    assert (await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4"))[-1].outcome == "done"
    assert len(supervisor.servers) == 1


@pytest.mark.parametrize(("obeys", "outcome", "generation"), [(True, "done", 2), (False, "rolled back", 1)])
async def test_a_promotion_without_an_answer_is_looked_for_in_the_view(
    fleet: Fleet, code: CodeKeeper, obeys: bool, outcome: str, generation: int
):
    supervisor = await started(fleet, code)
    Unanswered(supervisor, "promote", obeys=obeys)
    lines = await roll(RolloutKeeper(supervisor, lambda: fleet, code), "4")
    assert lines[-1].outcome == outcome
    assert supervisor.forkservers() == dict.fromkeys(("b1", "b2", "b3", "b4"), generation)
    assert list(supervisor.servers) == [generation]
