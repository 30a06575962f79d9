from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botctl.bot.handling.suspicion import DEATHS, KILLS, REST, REST_LEAST, REST_MOST, Judgement, judge
from botctl.storage.interruptions import Mark, UnderWay, read_mark


def under_way(**attempts: int) -> dict[int, UnderWay]:
    """`r1=2`: row 1 at its second attempt."""
    return {int(name[1:]): UnderWay(number, 0.5) for name, number in attempts.items()}


@pytest.mark.parametrize("failure", ["", "bad_token", "not_ready"])
def test_what_comes_from_outside_is_nobodys_fault(failure: str) -> None:
    assert judge(failure, under_way(r1=1, r2=5), {}, 5) == Judgement(frozenset({1, 2}))


def test_of_several_nobody_is_blamed_and_each_is_tried_alone() -> None:
    judged = judge("crash", under_way(r1=4, r2=4), {}, 5)
    assert judged.excused == judged.alone == {1, 2}
    assert not judged.guilty


@pytest.mark.parametrize("failure", ["hang", "crash", "memory", "oom"])
def test_who_was_alone_is_counted_and_at_last_given_up(failure: str) -> None:
    marks: dict[int, Mark] = {}
    for death in range(1, DEATHS + 1):
        judged = judge(failure, under_way(r1=death), marks, 5)
        marks = dict(judged.marks)
        assert not judged.excused
        assert judged.guilty == ({1} if death == DEATHS else frozenset())
    assert judge(failure, under_way(r1=2), {}, 2).guilty == {1}


def test_a_death_in_company_counts_once_it_is_alone_that_the_process_dies() -> None:
    marks = judge("crash", under_way(r1=1, r2=1), {}, 5).marks
    marks = judge("crash", under_way(r1=1, r2=1), marks, 5).marks
    first = judge("crash", under_way(r1=1), marks, 5)
    assert not first.guilty
    assert judge("crash", under_way(r1=2), first.marks, 5).guilty == {1}


def test_attempts_that_failed_are_no_deaths() -> None:
    assert not judge("crash", under_way(r1=4), {}, 5).guilty


def test_nothing_interrupted_means_nothing_to_judge() -> None:
    assert judge("crash", {}, {}, 5) == Judgement()


def test_who_is_suspected_of_a_crash_is_not_blamed_for_a_kill() -> None:
    marks = judge("crash", under_way(r1=1, r2=1), {}, 5).marks
    for _ in range(KILLS):
        judged = judge("signal", under_way(r1=1), marks, 5)
        marks = judged.marks
        assert judged.excused == {1}
        assert not judged.guilty


def killed(times: int, *, marks: dict[int, Mark] | None = None, ran: float = 0.5, limit: int = 5) -> Judgement:
    judged = Judgement(marks=marks or {})
    for _ in range(times):
        judged = judge("signal", {1: UnderWay(1, ran)}, judged.marks, limit)
    return judged


def test_an_update_that_was_there_at_each_kill_rests_then_is_tried_alone_and_at_last_given_up() -> None:
    assert not killed(KILLS - 1).alone
    trial = killed(KILLS)
    assert trial.alone == {1}
    assert trial.rests == {1: REST * 0.5}
    assert killed(KILLS, ran=0.01).rests == {1: REST_LEAST}
    assert killed(KILLS, ran=1000.0).rests == {1: REST_MOST}
    assert not killed(KILLS + DEATHS - 1).guilty
    assert killed(KILLS + DEATHS).guilty == {1}
    assert killed(KILLS + 2, limit=2).guilty == {1}


def test_a_kill_while_it_rests_clears_all_that_was_not_there() -> None:
    marks = killed(KILLS + DEATHS - 1).marks
    assert judge("signal", {}, marks, 5) == Judgement()
    assert judge("signal", {7: UnderWay(1)}, marks, 5).marks == {7: Mark(kills=1)}


def test_a_kill_during_another_suspect_clears_nobody() -> None:
    marks = {1: Mark(kills=KILLS + 1, rest=2.0), 2: Mark(kills=1)}
    judged = judge("signal", {2: UnderWay(1)}, marks, 5)
    assert judged.marks == {1: Mark(kills=KILLS + 1, rest=2.0), 2: Mark(kills=2)}
    assert judged.rests == {1: 2.0, 2: 2.0}


def test_a_trial_in_company_says_nothing() -> None:
    marks = killed(KILLS).marks
    again = judge("signal", {1: UnderWay(1), 2: UnderWay(1)}, marks, 5)
    assert again.marks[1].kills == KILLS


@given(st.builds(Mark, st.integers(0, 9), st.integers(0, 99), st.integers(0, 600).map(lambda n: n / 10), st.booleans()))
def test_a_mark_is_read_as_it_was_written(mark: Mark) -> None:
    assert read_mark(mark.text()) == mark


_ends = st.tuples(
    st.sampled_from(["signal", "signal", "signal", "crash", ""]), st.frozensets(st.integers(1, 4), max_size=3)
)


@given(st.lists(_ends, max_size=60))
@settings(max_examples=200, deadline=None)
def test_nobody_is_given_up_who_was_not_there_alone_at_the_last_ends(history: list[tuple[str, frozenset[int]]]) -> None:
    judged = Judgement()
    alone: dict[int, int] = {}
    attempts = dict.fromkeys(range(1, 5), 0)
    for failure, rows in history:
        there = {row: UnderWay(attempts[row] + 1, 0.1) for row in rows - judged.guilty}
        before, judged = judged, judge(failure, there, judged.marks, 100)
        for row in there.keys() - judged.excused:
            attempts[row] += 1
        if failure == "signal" and all(not before.marks.get(row, Mark()).kills for row in there):
            alone = {}  # it was somebody outside
        if failure and len(there) == 1:
            row = next(iter(there))
            alone[row] = alone.get(row, 0) + 1
        for row in judged.guilty - before.guilty:
            assert set(there) == {row}
            deaths = judged.marks[row].deaths
            assert deaths >= DEATHS or alone[row] >= DEATHS


class World:
    """A bot by its pure rules: who begins, who ends, and when the process is killed. Time in seconds."""

    def __init__(self, needs: dict[int, float], poisons: dict[int, float]) -> None:
        self.needs = needs
        """Seconds that each row takes; of a poison that never ends."""
        self.poisons = poisons
        """Seconds after its beginning at which a row has the process killed."""
        self.marks: dict[int, Mark] = {}
        self.waiting = sorted(needs.keys() | poisons.keys())
        self.given_up: list[int] = []
        self.ends = 0

    def live(self, killed_at: Callable[[], float], *, places: int = 3) -> None:
        """One process, from its start to a kill by somebody outside, by a poison, or until there is nothing to do."""
        judged = Judgement(marks=self.marks)
        now, kill = 0.0, killed_at()
        inside: dict[int, float] = {}
        while True:
            due = {row: judged.rests.get(row, 0.0) for row in self.waiting if row not in inside}
            ready = [row for row in self.waiting if row not in inside and due[row] <= now]
            alone = inside.keys() & judged.alone
            for row in ready:
                if alone or len(inside) >= places or (row in judged.alone and inside):
                    break  # a suspect waits for the others to end, and the others for it
                inside[row] = now
                alone = inside.keys() & judged.alone
            if not inside and not due:
                return
            ends = {row: at + self.poisons.get(row, self.needs.get(row, 0.0)) for row, at in inside.items()}
            coming = min([*ends.values(), *(at for at in due.values() if at > now), kill])
            now = coming
            if kill <= now or any(ends[row] <= now for row in inside.keys() & self.poisons.keys()):
                self.ends += 1
                there = {row: UnderWay(1, now - at) for row, at in inside.items()}
                judged = judge("signal", there, self.marks, 5)
                self.marks = dict(judged.marks)
                self.given_up += judged.guilty
                for row in judged.guilty:
                    self.waiting.remove(row)
                    self.marks.pop(row)
                return
            for row in [row for row, end in ends.items() if end <= now]:
                del inside[row]
                self.waiting.remove(row)
                self.marks.pop(row, None)
                judged = Judgement(marks={one: mark for one, mark in judged.marks.items() if one != row})


@pytest.mark.parametrize("mean", [0.2, 1.0, 4.0])
def test_kills_as_fast_as_the_bot_comes_back_blame_nobody(mean: float) -> None:
    """Twenty updates of a second or three each, and thousands of kills at any moment."""
    dice = random.Random(20261123)
    ends = 0
    for _ in range(60):
        world = World({row: dice.choice([0.5, 1.0, 3.0]) for row in range(20)}, {})
        while world.waiting and world.ends < 60:
            world.live(lambda: dice.expovariate(1 / mean))
        ends += world.ends
        assert world.given_up == []
    assert ends > 200


@given(
    poisons=st.dictionaries(st.integers(0, 9), st.sampled_from([0.0, 0.1, 2.0]), max_size=3),
    needs=st.dictionaries(st.integers(10, 15), st.sampled_from([0.1, 1.0]), max_size=4),
    outside=st.lists(st.floats(0.0, 5.0), max_size=4),
)
@settings(max_examples=200, deadline=None)
def test_what_has_the_process_killed_is_given_up_and_nothing_else(
    poisons: dict[int, float], needs: dict[int, float], outside: list[float]
) -> None:
    world = World(needs, poisons)
    moments = iter(outside)
    while world.waiting:
        world.live(lambda: next(moments, float("inf")))
        assert world.ends <= (KILLS + DEATHS) * (len(poisons) + len(outside)) + len(outside)
    assert sorted(world.given_up) == sorted(poisons)
