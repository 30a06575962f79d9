"""Turns to start, the fleet breaker, deadlines: all bots together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from botctl.supervision import events
from botctl.supervision.actions import Spawn
from botctl.supervision.breaker import Breaker, BreakerPolicy, BreakerState
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import Exit, Failure, Health, Policy, State
from botctl.supervision.pacing import Pace, Turns
from botctl.supervision.reconcile import Wanted

POLICY = Policy(intensity=3, period=60.0, first_delay=0.1, max_delay=5.0, stop_timeout=10.0, ready_timeout=20.0)
CRASH = events.Exited(Exit(code=1))


def fleet(size: int, *, at_once: int = 100, up: bool = True) -> FleetMachine:
    machine = FleetMachine(Pace(at_once=at_once))
    for key in range(1, size + 1):
        machine.add(key, POLICY)
    machine.desire({key: Wanted("a") for key in range(1, size + 1)}, 0.0)
    if up:
        for key in range(1, size + 1):
            raise_up(machine, key, 0.5)
    return machine


def raise_up(machine: FleetMachine, key: int, now: float) -> None:
    machine.feed(key, events.Spawned(1000 + key), now)
    machine.feed(key, events.BecameReady(), now)


def look(machine: FleetMachine, now: float) -> list[Change]:
    """What a loop does when it wakes."""
    changes: list[Change] = []
    for key in machine.due(now):
        changes += machine.feed(key, events.Due(), now)
    return changes + machine.elapse(now)


def states(machine: FleetMachine, state: State) -> set[int]:
    return {key for key, record in machine.records.items() if record.state is state}


def spawned(changes: list[Change]) -> list[int]:
    return [change.key for change in changes for action in change.actions if isinstance(action, Spawn)]


def test_no_more_than_so_many_start_at_once_and_the_next_when_one_shows_life():
    machine = fleet(10, at_once=3, up=False)
    assert states(machine, State.STARTING) == {1, 2, 3}
    assert (machine.turns.taken, machine.turns.waiting) == (3, 7)
    changes = machine.feed(1, events.Beat(Health.OK), 0.2)
    assert spawned(changes) == [4], "its event loop runs: the expensive part is over"
    assert spawned(machine.feed(2, events.BecameReady(), 0.3)) == [5]
    assert spawned(machine.feed(3, CRASH, 0.4)) == [6]


def test_a_bot_that_shows_no_life_gives_its_turn_away_and_goes_on_starting():
    machine = fleet(3, at_once=1, up=False)
    assert machine.next_look() == 5.0
    assert spawned(machine.elapse(4.9)) == []
    assert spawned(machine.elapse(5.0)) == [2]
    assert states(machine, State.STARTING) == {1, 2}


def test_who_is_stopped_while_waiting_is_passed_over():
    machine = fleet(3, at_once=1, up=False)
    machine.feed(2, events.Unwant(), 0.1)
    assert spawned(machine.feed(1, events.BecameReady(), 0.2)) == [3]


def test_servers_wait_for_nobody():
    machine = fleet(1, at_once=1, up=False)
    machine.add(-1, POLICY, paced=False)
    (change,) = machine.feed(-1, events.Want(), 0.1)
    assert (change.before.state, change.after.state, change.actions) == (
        State.CONFIGURED, State.STARTING, (Spawn(1),),
    )  # fmt: skip


def test_a_turn_taken_at_once_is_no_change_of_its_own():
    machine = fleet(1)
    machine.feed(1, events.Restart(), 1.0)
    (change,) = machine.feed(1, events.Exited(Exit(code=0)), 2.0)
    assert (change.before.state, change.after.state) == (State.STOPPING, State.STARTING)
    assert isinstance(change.event, events.Exited)
    assert change.actions == (Spawn(2),)


def test_a_deadline_that_moves_is_looked_at_when_it_has_come():
    machine = fleet(1)
    assert machine.next_look() is not None
    for now in range(1, 100):
        machine.feed(1, events.Beat(), float(now))
        assert look(machine, float(now)) == []
    assert look(machine, 108.9) == []
    (change,) = look(machine, 109.0)
    assert change.after.state is State.FAILED


def test_many_failures_together_hold_everybody_back_then_one_tries_then_all_follow():
    machine = fleet(9)
    machine.feed(9, events.Beat(), 9.0)
    for key in range(1, 9):
        machine.feed(key, CRASH, 10.0 + key / 100)
    assert machine.breaker.state is BreakerState.OPEN
    assert "of 9 bots failed within 10 s" in machine.breaker.reason
    assert all(not record.failures for record in machine.records.values()), "the environment's failures count for none"
    assert spawned(look(machine, 10.5)) == []
    assert machine.breaker.held == 8
    held = machine.records[1]
    assert (held.state, held.reason) == (State.BACKOFF, machine.breaker.reason)
    assert states(machine, State.RUNNING) == {9}, "who is well is left alone"

    (probe,) = spawned(look(machine, 11.1))
    assert machine.breaker.state is BreakerState.PROBING
    assert spawned(look(machine, 11.5)) == []
    raise_up(machine, probe, 11.6)
    assert spawned(look(machine, 12.5)) == []
    assert len(spawned(look(machine, 12.6))) == 2
    assert len(spawned(look(machine, 12.85))) == 4
    assert len(spawned(look(machine, 13.1))) == 1
    look(machine, 13.35)
    assert machine.breaker.closed
    assert machine.breaker.reason == ""


def test_a_probe_that_fails_doubles_the_pause_up_to_its_maximum():
    breaker = Breaker(BreakerPolicy(first_pause=1.0, max_pause=4.0))
    for key in (1, 2, 3):
        breaker.failed(key, 3, 0.0)
        breaker.hold(key)
    now = 0.0
    for pause in (1.0, 2.0, 4.0, 4.0):
        assert breaker.let_go(now + pause - 0.01) == ()
        now += pause
        (probe,) = breaker.let_go(now)
        assert breaker.failed(probe, 3, now) == (probe,)
        breaker.hold(probe)
        assert breaker.state is BreakerState.OPEN


def weather(machine: FleetMachine, seconds: float, broken: Callable[[int], bool], *, start: float = 10.0) -> float:
    """Let time pass; who is broken crashes when it starts, everybody else gets ready and beats. When that was."""
    now = start
    while now < start + seconds:
        for key in sorted(states(machine, State.STARTING)):
            if broken(key):
                machine.feed(key, CRASH, now)
            else:
                raise_up(machine, key, now)
        for key in states(machine, State.RUNNING) | states(machine, State.DEGRADED):
            machine.feed(key, events.Beat(), now)
        now += 0.25
        look(machine, now)
    return now


def test_a_storm_quarantines_nobody_however_long_it_lasts_and_ends_by_itself():
    machine = fleet(4)
    for key in (1, 2, 3, 4):
        machine.feed(key, CRASH, 10.0)
    now = weather(machine, 600.0, lambda key: True)
    assert states(machine, State.QUARANTINED) == set()
    assert machine.records[1].restarts < 60, "and the machine is not worn out by restarts"
    weather(machine, 60.0, lambda key: False, start=now)
    assert states(machine, State.RUNNING) == {1, 2, 3, 4}


@pytest.mark.parametrize(("size", "bad"), [(9, 3), (60, 20), (150, 50)])
def test_a_part_that_fails_while_the_others_are_well_is_at_fault_itself(size: int, bad: int):
    machine = fleet(size)
    for key in range(1, bad + 1):
        machine.feed(key, CRASH, 10.0)
    assert machine.breaker.state is BreakerState.OPEN
    weather(machine, 60.0, lambda key: key <= bad)
    assert states(machine, State.QUARANTINED) == set(range(1, bad + 1))
    assert states(machine, State.RUNNING) == set(range(bad + 1, size + 1))


def test_a_fleet_that_has_never_been_ready_is_at_fault_itself():
    machine = fleet(3, up=False)
    weather(machine, 60.0, lambda key: True, start=0.0)
    assert states(machine, State.QUARANTINED) == {1, 2, 3}


@pytest.mark.parametrize(("size", "bad"), [(9, 3), (60, 20)])
def test_a_bot_that_fails_once_amid_others_that_go_on_failing_is_back_soon(size: int, bad: int):
    machine = fleet(size)
    for key in range(1, bad + 1):
        machine.feed(key, CRASH, 10.0)
    now = weather(machine, 3.0, lambda key: key <= bad)
    machine.feed(size, CRASH, now)
    weather(machine, 31.0, lambda key: key <= bad, start=now)
    assert machine.records[size].state is State.RUNNING


def test_who_is_on_its_own_is_the_breakers_affair_again_when_it_has_been_well():
    breaker = Breaker(BreakerPolicy(calm=60.0))
    breaker.leave_alone([1])
    assert breaker.failed(1, 3, 10.0) == ()
    breaker.alive(1, 11.0)
    breaker.failed(1, 3, 70.9)
    breaker.alive(1, 71.0)
    breaker.failed(1, 3, 131.0)
    breaker.failed(2, 3, 131.0)
    assert breaker.failed(3, 3, 131.0) == (1, 2, 3)


def test_a_probe_that_neither_lives_nor_dies_makes_way_for_another():
    machine = fleet(3)
    for key in (1, 2, 3):
        machine.feed(key, CRASH, 10.0)
    look(machine, 10.5)
    first = spawned(look(machine, 11.0))
    assert spawned(look(machine, 26.0)) not in ([], first)


def test_a_probe_that_is_stopped_makes_way_for_another():
    machine = fleet(3)
    for key in (1, 2, 3):
        machine.feed(key, CRASH, 10.0)
    look(machine, 10.5)
    (probe,) = spawned(look(machine, 11.0))
    machine.feed(probe, events.Unwant(), 11.1)
    machine.feed(probe, CRASH, 11.2)
    assert len(spawned(look(machine, 26.0))) == 1


@pytest.mark.parametrize("failure", [Failure.BAD_TOKEN, Failure.CONFLICT, Failure.MEMORY, Failure.CODE])
def test_failures_that_are_a_bots_own_affair_open_no_breaker(failure: Failure):
    machine = fleet(6)
    for key in range(1, 7):
        machine.feed(key, events.LastWords(failure, "why"), 10.0)
        machine.feed(key, CRASH, 10.1)
    assert machine.breaker.closed


def test_kills_from_outside_open_no_breaker():
    machine = fleet(6)
    for key in range(1, 7):
        machine.feed(key, events.Exited(Exit(signal=9)), 10.0)
    assert machine.breaker.closed
    assert len(spawned(look(machine, 10.1))) == 6


def test_two_crashes_of_a_small_fleet_are_two_crashes():
    machine = fleet(3)
    for key in (1, 2):
        machine.feed(key, CRASH, 10.0)
    assert machine.breaker.closed


def test_an_operators_restart_is_not_held_back():
    machine = fleet(3)
    for key in (1, 2, 3):
        machine.feed(key, CRASH, 10.0)
    look(machine, 10.5)
    assert spawned(machine.feed(2, events.Restart(), 10.6)) == [2]
    assert machine.breaker.held == 2


def test_a_bot_that_leaves_the_fleet_is_forgotten_when_it_has_ended_and_its_numbers_go_on():
    machine = fleet(2)
    machine.desire({2: Wanted("a")}, 1.0)
    assert machine.records[1].state is State.STOPPING
    (change,) = machine.feed(1, events.Exited(Exit(code=0)), 2.0)
    assert change.forgotten
    assert set(machine.records) == {2}
    assert machine.add(1, POLICY).incarnation == 1


def test_a_bot_that_is_at_rest_is_forgotten_at_once():
    machine = fleet(2)
    machine.feed(1, events.Unwant(), 1.0)
    machine.feed(1, CRASH, 1.1)
    assert machine.records[1].state is State.STOPPED
    (change,) = machine.desire({2: Wanted("a")}, 2.0)
    assert (change.key, change.forgotten) == (1, True)


def test_a_bot_wanted_again_while_it_leaves_starts_anew():
    machine = fleet(1)
    machine.desire({}, 1.0)
    machine.desire({1: Wanted("b")}, 1.5)
    (change,) = machine.feed(1, events.Exited(Exit(code=0)), 2.0)
    assert (change.after.state, change.forgotten) == (State.STARTING, False)


def test_a_supervisor_that_was_away_judges_nobody_for_it():
    machine = fleet(3)
    machine.stalled(60.0, 70.0)
    assert look(machine, 70.0) == []


def test_turns_are_first_come_first_served():
    turns = Turns(Pace(at_once=1))
    for key in (3, 1, 2):
        turns.ask(key)
    turns.ask(3)
    given = []
    while (key := turns.next(0.0)) is not None:
        given.append(key)
        turns.leave(key)
    assert given == [3, 1, 2]


def test_a_failure_of_the_environment_quarantines_nobody_whose_own_failures_were_many():
    machine = fleet(6)
    own = machine.records[1].but(failures=(1.0, 2.0, 3.0))  # one more is one too many
    machine.records[1] = own
    for key in (2, 3):
        machine.feed(key, CRASH, 30.0)
    machine.feed(1, CRASH, 30.1)
    assert machine.breaker.state is BreakerState.OPEN
    assert (machine.records[1].state, machine.records[1].failures) == (State.BACKOFF, ())
    machine.records[4] = machine.records[4].but(failures=(1.0, 2.0, 3.0))
    (change, _) = machine.feed(4, CRASH, 30.2)
    assert change.after.state is State.BACKOFF, "nor while restarts are held back"


def test_many_failures_of_one_bot_are_still_its_own():
    machine = fleet(6)
    machine.records[1] = machine.records[1].but(failures=(1.0, 2.0, 3.0))
    machine.feed(1, CRASH, 30.0)
    assert machine.records[1].state is State.QUARANTINED


def test_who_waits_for_a_turn_when_the_breaker_opens_waits_for_the_breaker():
    machine = fleet(4, at_once=1)
    look(machine, 20.0)
    for key in (1, 2):
        machine.feed(key, CRASH, 20.1)
    assert spawned(look(machine, 20.3)) == [1], "the other waits for its turn"
    machine.feed(3, CRASH, 20.4)
    assert machine.breaker.state is BreakerState.OPEN
    assert machine.records[2].reason == machine.breaker.reason
    assert (machine.turns.waiting, machine.breaker.held) == (0, 1)
    assert spawned(machine.feed(1, events.BecameReady(), 20.5)) == []


def test_a_late_report_takes_nobodys_place_in_the_queue():
    machine = fleet(3, at_once=1, up=False)
    assert machine.feed(2, events.Beat(), 0.1) == []
    assert machine.feed(3, CRASH, 0.1) == []
    assert machine.turns.queue() == (2, 3)


def test_a_late_report_of_an_end_is_no_failure_to_the_breaker():
    machine = fleet(3)
    machine.feed(1, CRASH, 10.0)
    machine.feed(2, CRASH, 10.0)
    machine.feed(3, CRASH, 10.0)
    pause = machine.breaker.next_look()
    for key in (1, 2, 3):
        machine.feed(key, CRASH, 10.2)
    assert machine.breaker.next_look() == pause
    assert machine.breaker.held == 0


def test_a_bot_that_leaves_and_fails_when_the_breaker_opens_is_forgotten_once():
    machine = fleet(3)
    for now in (9.0, 18.0):
        for key in (1, 2):
            machine.feed(key, events.Beat(), now)
    (hung,) = machine.due(18.1)
    machine.feed(hung, events.Due(), 18.1)
    for key in (1, 2):
        machine.feed(key, CRASH, 18.2)
    machine.desire({1: Wanted("a"), 2: Wanted("a")}, 18.2)
    machine.feed(hung, events.Want(), 18.2)
    change, *_ = machine.feed(hung, events.Exited(Exit(signal=9)), 18.3)
    assert (change.key, change.forgotten, set(machine.records)) == (3, True, {1, 2})
    assert machine.breaker.state is BreakerState.OPEN


def doubting(size: int) -> FleetMachine:
    """A fleet that is well, with a breaker that doubts from the start and opens at two failures."""
    machine = FleetMachine(breaker=BreakerPolicy(least=2, doubt_after=1))
    for key in range(1, size + 1):
        machine.add(key, POLICY)
    machine.desire({key: Wanted("a") for key in range(1, size + 1)}, 0.0)
    for key in range(1, size + 1):
        raise_up(machine, key, 0.5)
    return machine


def test_a_doubting_breaker_stays_open_for_those_that_it_still_believes():
    machine = doubting(2)
    for key in (1, 2):
        machine.feed(key, CRASH, 10.0)
    assert machine.breaker.state is BreakerState.OPEN, "nobody is well, and both have been ready"
    assert spawned(look(machine, 10.5)) == []
    assert machine.breaker.held == 2


def test_who_has_just_failed_is_not_well():
    machine = doubting(3)
    for key in (1, 2):
        machine.feed(key, CRASH, 10.0)
    assert machine.breaker.state is BreakerState.OPEN, "one of three is well, and that is not most of them"
    assert machine.records[2].failures == ()
