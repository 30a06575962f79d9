"""A short run of kills under load: 15 bots killed, one restart of each server, one of the supervisor; nothing is lost.

The long one is `scripts/chaos kills`. Nothing fails here because it is slow.
"""

from __future__ import annotations

import pytest

from chaos.kills import plan
from chaos.kills.messages import Kind, Message, Sight, disorder, sight_of
from chaos.kills.run import Kills
from support.stack import Stack

pytestmark = pytest.mark.e2e

FAULTS = (
    "PostgreSQL restarted",
    "Telegram: answers lost",
    "Valkey's files lost",
    "supervisor killed",
    "control killed",
)


async def test_bots_that_are_killed_under_load_lose_nothing(stack: Stack) -> None:
    drawn = plan.draw(20261123, 4, 15, pause=0.7, names=FAULTS)
    kills = Kills(stack, bots=4, chats=24, seed=20261123, every=2.0)
    result = await kills.run(drawn, calm=1.0, say=False)
    assert not result.violations, "\n".join(result.violations)
    assert (result.kills, result.lost) == (15, 0)
    assert [phase.name for phase in result.done.phases] == list(FAULTS)
    assert result.done.with_supervisor > 0
    assert {one.kind for one in result.messages} == set(Kind)
    assert result.surplus <= result.uncertain


def test_a_plan_can_be_drawn_again_and_has_every_fault_and_moment() -> None:
    drawn = plan.draw(7, 10, 1000, pause=1.0)
    assert drawn == plan.draw(7, 10, 1000, pause=1.0)
    assert drawn != plan.draw(8, 10, 1000, pause=1.0)
    assert {fault.name for fault in drawn.faults.values()} == set(plan.FAULTS)
    assert {kill.moment for kill in drawn.kills} == set(plan.Moment)
    assert {kill.bot for kill in drawn.kills} == set(range(10))


def test_parts_that_come_in_another_order_are_noticed() -> None:
    messages = {number: Message(number, Kind.CALLS, 0, 5, (0, 5), 0.0) for number in (1, 2)}
    first = [Sight(1, 0), Sight(1, 1), Sight(1, 0), Sight(1, 2), Sight(2, 0), Sight(1, 2)]
    assert list(disorder(messages, {(0, 5): first})) == []  # what comes twice may come late
    assert list(disorder(messages, {(0, 5): [Sight(2, 0), Sight(1, 0)]})) != []
    assert list(disorder(messages, {(0, 5): [Sight(1, 1), Sight(1, 0)]})) != []
    assert sight_of("m12x 2/3") == Sight(12, 1)
    assert sight_of("Echo here. You said: “please repeat m7x” Tell me more about it.") == Sight(7, 0)
    assert sight_of("Sorry") is None
