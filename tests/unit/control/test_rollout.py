"""What a rolling restart decides: waves, who is back, and when replies have become worse."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botctl.control.ports import BotSight
from botctl.control.rollouts.rules import (
    CHANCE,
    Ledger,
    Return,
    Tally,
    WaveSize,
    _at_least,
    enough,
    fall,
    returned,
    takes_part,
    waves,
)
from botctl.errors import UsageError


def bot(number: int = 1, **fields: object) -> BotSight:
    return BotSight(**{"name": f"b{number}", "bot_id": number, "state": "running", "incarnation": 1} | fields)


# --- waves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "bots", "lengths"),
    [
        ("5%", 100, [5] * 20),
        ("5%", 10, [1] * 10),
        ("40%", 5, [2, 2, 1]),
        ("100%", 7, [7]),
        ("3", 7, [3, 3, 1]),
        ("50", 7, [7]),
        ("1%", 1, [1]),
    ],
)
def test_waves_are_a_number_or_a_share_and_at_least_one_bot(size: str, bots: int, lengths: list[int]):
    fleet = [bot(number) for number in range(bots)]
    plan = waves(fleet, WaveSize.parse(size))
    assert [len(wave) for wave in plan] == lengths
    assert [one for wave in plan for one in wave] == fleet


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-3", "5 %", "half", "2.5", "%"])
def test_other_sizes_are_refused(text: str):
    with pytest.raises(UsageError):
        WaveSize.parse(text)


def test_stopped_quarantined_and_unstarted_bots_are_left_alone():
    alone = [bot(state="stopped", wanted=False), bot(state="quarantined"), bot(state="configured")]
    assert not any(map(takes_part, alone))
    assert not takes_part(bot(state="stopping", wanted=False))
    assert not takes_part(bot(state="stopping", shut_away=True))
    assert all(takes_part(bot(state=state)) for state in ("running", "degraded", "paused", "backoff", "starting"))


# --- who is back ---------------------------------------------------------------------------------------------------

BEFORE = bot(incarnation=7, failures=3)


@pytest.mark.parametrize(
    ("now", "late", "expected"),
    [
        (bot(incarnation=7, state="stopping"), False, Return.UNDER_WAY),
        (bot(incarnation=7), False, Return.UNDER_WAY),
        (bot(incarnation=8, state="starting"), False, Return.UNDER_WAY),
        (bot(incarnation=8, state="paused"), False, Return.UNDER_WAY),
        (bot(incarnation=8, forkserver=2), False, Return.BACK),
        (bot(incarnation=8, forkserver=2, state="degraded"), True, Return.BACK),
        (bot(incarnation=8, forkserver=1), False, Return.UNDER_WAY),
        (bot(incarnation=9, forkserver=2), False, Return.BACK),
        (bot(incarnation=9, state="backoff", failures=4), False, Return.UNDER_WAY),
        (bot(incarnation=9, forkserver=2, failures=4), False, Return.BACK),
        (bot(incarnation=10, state="backoff", failures=5), False, Return.LOST),
        (bot(incarnation=10, forkserver=2, failures=5), False, Return.LOST),
        (bot(incarnation=40, forkserver=2, failures=3), False, Return.BACK),
        (bot(incarnation=8, state="quarantined", wanted=False), False, Return.LOST),
        (bot(incarnation=8, state="quarantined", shut_away=True), False, Return.LEFT),
        (bot(incarnation=8, state="stopping", shut_away=True), True, Return.LEFT),
        (bot(incarnation=8, state="starting"), True, Return.LOST),
        (bot(incarnation=8, state="stopped", wanted=False), True, Return.LEFT),
        (None, False, Return.LEFT),
    ],
)
def test_a_bot_is_back_when_it_serves_again_from_the_new_generation(now: BotSight | None, late: bool, expected: Return):
    assert returned(BEFORE, now, late=late, generation=2)[0] is expected


def test_the_reason_names_what_happened():
    lost = bot(incarnation=8, state="quarantined", reason="handlers shop:register can't be loaded")
    assert "can't be loaded" in returned(BEFORE, lost, late=False)[1]
    assert "paused: database" in returned(BEFORE, bot(incarnation=8, state="paused", reason="database"), late=True)[1]


# --- replies -------------------------------------------------------------------------------------------------------


def test_counters_are_summed_over_incarnations_and_those_before_the_restart_do_not_count():
    ledger = Ledger(bot(incarnation=4, counters={"handled": 900.0}))
    for incarnation, handled, failures in ((4, 901, 0), (5, 3, 1), (5, 5, 1), (6, 2, 2)):
        ledger.take(bot(incarnation=incarnation, counters={"handled": handled, "handler_failures": failures}))
    assert ledger.tally == Tally(7, 3)


NOTHING, WELL, POOR = Tally(), Tally(998, 2), Tally(70, 30)


@pytest.mark.parametrize(
    ("before", "handled", "failures", "worse"),
    [
        (NOTHING, 0, 0, False),
        (NOTHING, 0, 2, False),
        (NOTHING, 0, 3, True),
        (NOTHING, 3, 3, False),
        (NOTHING, 4, 4, True),
        (NOTHING, 8, 4, False),
        (NOTHING, 9, 5, True),
        (WELL, 1000, 0, False),
        (WELL, 0, 2, False),
        (WELL, 0, 3, True),
        (WELL, 17, 3, True),
        (WELL, 91, 9, False),
        (WELL, 88, 12, True),
        (POOR, 6, 4, False),
        (POOR, 60, 40, False),
        (POOR, 65, 35, False),
        (POOR, 0, 10, True),
        (POOR, 500, 500, True),
    ],
)
def test_replies_are_worse_when_neither_chance_nor_a_poor_past_explains_it(
    before: Tally, handled: int, failures: int, worse: bool
):
    assert (fall(before, Tally(handled, failures)) is not None) is worse


def test_the_words_give_the_figures():
    assert fall(WELL, Tally(5, 15)) == "15 of 20 updates were not answered (25%, 100% before)"
    assert fall(NOTHING, Tally(0, 3)) == "3 of 3 updates were not answered (0%, nothing to compare with before)"


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.001, 0.999))
def test_the_binomial_tail_is_a_probability_that_falls_with_k(k: int, n: int, p: float):
    k = min(k, n)
    assert 0.0 <= _at_least(k, n, p) <= 1.0
    assert _at_least(k + 1, n, p) <= _at_least(k, n, p) + 1e-9


def test_the_binomial_tail_is_right():
    assert _at_least(3, 3, 0.05) == pytest.approx(0.05**3)
    assert _at_least(1, 2, 0.5) == pytest.approx(0.75)
    assert _at_least(60, 100, 0.5) == pytest.approx(0.0284, abs=1e-4)


def test_what_a_bot_claims_of_itself_costs_no_time():
    began = time.process_time()
    assert fall(WELL, Tally(0.7e15, 0.3e15)) is not None
    assert fall(WELL, Tally(1e15, 0)) is None
    wild = bot(counters={"handled": -5.0, "handler_failures": float("inf")})
    assert Tally.of(wild) == Tally(0.0, 1e9)
    assert time.process_time() - began < 0.5


@given(st.integers(0, 10_000), st.integers(0, 500), st.integers(0, 200))
def test_no_more_answers_make_it_worse_and_never_fewer_failures(handled: int, failures: int, more: int):
    before = Tally(500, 10)
    if fall(before, Tally(handled, failures)) is None:
        assert fall(before, Tally(handled + more, failures)) is None
    else:
        assert fall(before, Tally(handled, failures + more)) is not None
    assert CHANCE < 0.05


def test_enough_is_known_when_each_bot_has_answered_and_none_has_failed():
    assert enough([Tally(10, 0), Tally(10, 0)])
    assert not enough([Tally(20, 0), Tally(0, 0)])
    assert not enough([Tally(30, 1), Tally(10, 0)])
    assert not enough([Tally(9, 0), Tally(10, 0)])
