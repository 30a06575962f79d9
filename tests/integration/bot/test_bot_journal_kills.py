"""kill -9 at each step of the send journal, hit for certain: rows, messages and counts as docs/reliability.md says.

The long one is `scripts/chaos journal`, which has 200 of each.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from botctl.sandbox.process import SandboxProcess
from chaos.journal import steps
from chaos.journal.stage import Stage, play
from support.bot_process import bot_maker


async def test_killed_at_each_step_of_the_journal(
    forkserver: Any, sandbox: SandboxProcess, valkey_admin_url: str, redis: Redis, new_database: Any, tmp_path: Path
) -> None:
    async with bot_maker(forkserver, sandbox, redis, valkey_admin_url) as maker:
        tally = await play(Stage(maker, new_database, tmp_path), kills=4, seed=20261123)
    assert not tally.stories, "\n".join(tally.stories)
    assert set(tally.trials.values()) == {4}
    assert len(tally.trials) == len(steps.Step) * len(steps.Mode) * 2
    assert tally.twice > 0
    assert tally.uncertain > tally.twice


def test_trials_can_be_drawn_again_and_a_round_stops_no_more_than_one_bot_can_bear() -> None:
    trials = steps.draw(7, 20)
    assert trials == steps.draw(7, 20)
    assert trials != steps.draw(8, 20)
    rounds = steps.rounds(trials, 7)
    assert sorted((trial for one in rounds for trial in one), key=lambda trial: trial.chat) == trials
    assert all(count <= steps.MOST[by] for one in rounds for by, count in Counter(trial.by for trial in one).items())
    assert {trial.parts for trial in trials} == {1, 2, 3}
