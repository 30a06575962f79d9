"""A short chaos: a fleet of 20, its witnesses undisturbed, its victims back with the true cause told, nothing left.

The long one is `scripts/chaos`. Nothing fails here because it is slow.
"""

from __future__ import annotations

import pytest

from chaos import plan
from chaos.run import Chaos
from support.stack import Stack

pytestmark = pytest.mark.e2e

FAULTS = (
    *("block_c", "stop", "memory_fast", "forks", "bad_code"),
    *("kill", "segfault", "exit_0", "flood_output", "raising"),
    *("forkserver_kill", "control_kill", "term"),
)


async def test_a_fleet_of_twenty_under_chaos(stack: Stack) -> None:
    steps = plan.listed(FAULTS, seed=20261122, bots=20, pause=0.3)
    chaos = Chaos(stack, bots=20, seed=20261122, heartbeat_timeout=4.0)
    result = await chaos.run(iter(steps), calm=1.0, chaos=60.0, say=False)
    assert result.violations == []
    assert [outcome.fault.name for outcome in result.outcomes if outcome.sound is None] == []
    assert len(result.outcomes) == len(FAULTS)
    assert result.lost == 0
    assert sum(message.at >= result.chaos[0] for message in result.messages) > 100


def test_a_plan_can_be_drawn_again_and_has_every_fault_and_every_bot() -> None:
    steps = plan.draw(7, 20, 200, pause=1.0)
    assert steps == plan.draw(7, 20, 200, pause=1.0)
    assert steps != plan.draw(8, 20, 200, pause=1.0)
    assert {step.fault.name for step in steps} == set(plan.FAULTS)
    assert {step.victim for step in steps} - {None} == set(range(20))
