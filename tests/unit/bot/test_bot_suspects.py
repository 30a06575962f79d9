from __future__ import annotations

import pytest

from botctl.bot.handling.suspects import DEATHS, Verdict, judge


@pytest.mark.parametrize("failure", ["", "signal", "bad_token", "not_ready"])
def test_what_comes_from_outside_is_nobodys_fault(failure: str):
    assert judge(failure, {1: 1, 2: 5}, limit=5) == Verdict(excused=frozenset({1, 2}))


def test_of_several_nobody_is_blamed_and_each_is_tried_alone():
    assert judge("crash", {1: 4, 2: 4}, limit=5) == Verdict(excused=frozenset({1, 2}), suspected=frozenset({1, 2}))


def test_who_was_alone_is_counted_and_at_last_given_up():
    assert judge("crash", {1: DEATHS - 1}, limit=5) == Verdict(suspected=frozenset({1}))
    assert judge("hang", {1: DEATHS}, limit=5) == Verdict(guilty=frozenset({1}))
    assert judge("memory", {1: 2}, limit=2) == Verdict(guilty=frozenset({1}))


def test_a_death_in_company_counts_once_it_is_alone_that_the_process_dies():
    assert judge("crash", {1: DEATHS - 2}, limit=5, seen_together=frozenset({1, 2})).guilty == frozenset()
    assert judge("crash", {1: DEATHS - 1}, limit=5, seen_together=frozenset({1, 2})).guilty == frozenset({1})


def test_nothing_interrupted_means_nothing_to_judge():
    assert judge("crash", {}, limit=5) == Verdict()


def test_a_kill_tells_when_only_suspects_were_there():
    seen = frozenset({1})
    assert judge("signal", {1: 2}, limit=5, suspected=seen) == Verdict(suspected=frozenset({1}))
    assert judge("signal", {1: DEATHS}, limit=5, suspected=seen) == Verdict(guilty=frozenset({1}))
    assert judge("signal", {1: 9, 2: 1}, limit=5, suspected=seen) == Verdict(excused=frozenset({1, 2}))
