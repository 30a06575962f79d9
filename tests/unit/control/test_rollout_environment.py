"""When bots that don't come back prove nothing against their code."""

from __future__ import annotations

import pytest

from botctl.control.ports import BotSight, FleetSight
from botctl.control.rollouts.environment import PATIENCE, Environment

BREAKER = "3 of 9 bots failed within 10 s, so restarts are held back"


def bot(number: int, state: str = "running", **fields: object) -> BotSight:
    return BotSight(**{"name": f"b{number}", "bot_id": number, "state": state} | fields)


def sight(*bots: BotSight, breaker: str = "") -> FleetSight:
    return FleetSight(pid=1, state="running", started_at=0.0, generation=1, bots=bots, breaker=breaker)


def fallen(number: int, failure: str = "crash") -> BotSight:
    return bot(number, "backoff", last_failure=failure, last_failure_at=50.0)


def wave_of(*numbers: int) -> Environment:
    environment = Environment()
    environment.begin_wave(numbers, sight(*(bot(number, last_failure_at=None) for number in range(1, 6))))
    return environment


def test_a_well_environment_is_no_trouble():
    assert wave_of(1).look(sight(bot(1), bot(2, "backoff"), bot(3, "degraded")), [1], 0.0) is None


@pytest.mark.parametrize(
    ("bots", "why"),
    [
        ([bot(1, "paused", reason="database: it is away")], "b1 is paused: database: it is away"),
        ([bot(1, "paused", reason="database"), bot(2, "paused")], "b1 and 1 more are paused: database"),
        ([bot(2, "paused")], "b2 is paused"),
    ],
)
def test_a_paused_bot_that_matters_is_trouble_that_is_not_its_codes(bots: list[BotSight], why: str):
    trouble = wave_of(1, 2).look(sight(*bots), [1, 2], 0.0)
    assert trouble is not None
    assert (trouble.why, trouble.suspect) == (why, False)


def test_bots_that_don_t_matter_may_be_paused():
    assert wave_of(1).look(sight(bot(1), bot(2, "paused"), bot(3, "paused", wanted=False)), [1, 3], 0.0) is None


@pytest.mark.parametrize(
    ("bots", "suspect"),
    [
        ([fallen(1), fallen(2), bot(3)], True),
        ([fallen(1), fallen(2), fallen(3)], False),
        ([fallen(3)], False),
        ([fallen(1), fallen(3, "signal")], True),
        ([bot(1), bot(2)], False),
    ],
)
def test_the_code_is_suspect_when_only_its_bots_have_fallen(bots: list[BotSight], suspect: bool):
    trouble = wave_of(1, 2).look(sight(*bots, breaker=BREAKER), [1, 2], 0.0)
    assert trouble is not None
    assert (trouble.why, trouble.suspect) == (BREAKER, suspect)


def test_what_has_fallen_before_the_wave_is_nobodys_fault_of_today():
    environment = Environment()
    environment.begin_wave([1], sight(bot(1), fallen(2)))
    trouble = environment.look(sight(fallen(1), fallen(2), breaker=BREAKER), [1], 0.0)
    assert trouble is not None
    assert trouble.suspect


def test_the_clock_stands_still_during_trouble_and_each_wave_has_its_patience():
    environment = wave_of(1)
    well, ill = sight(bot(1)), sight(bot(1, "paused"))
    for now, view in ((10.0, well), (12.0, ill), (15.0, ill), (17.0, well), (20.0, well)):
        environment.look(view, [1], now)
    assert environment.clock(20.0) == 15.0
    for at in (100.0, 100.0 + PATIENCE - 6.0):
        environment.look(ill, [1], at)
    assert not environment.too_long
    environment.look(ill, [1], 100.0 + PATIENCE - 4.0)
    assert environment.too_long
    environment.begin_wave([2], well)
    assert not environment.too_long
