"""The table as a whole, and what it makes of wishes: start, stop, restart, quarantine, release."""

from __future__ import annotations

import itertools
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from botctl.supervision import events, machine
from botctl.supervision.actions import AskStop, AskTurn, Kill, Spawn, Terminate
from botctl.supervision.cells.step import Step
from botctl.supervision.machine import TABLE
from botctl.supervision.model import HAS_PROCESS, Exit, Failure, Health, Record, State
from botctl.supervision.reference import reference
from support.one_child import POLICY, play, running, step


def test_every_state_has_an_answer_to_every_event():
    for state, kind in itertools.product(State, events.EVENTS):
        assert kind in TABLE[state], f"{state} × {kind.__name__}"
        assert TABLE[state][kind].__doc__, "the table is the documentation: every cell says what it does"
    assert set(TABLE) == set(State)


def test_the_page_says_what_the_code_does():
    page = Path(__file__).parents[3] / "docs" / "state-machine.md"
    assert page.read_text("utf-8") == reference(), "run: python -m botctl.supervision.reference docs/state-machine.md"


def test_a_wanted_child_is_spawned_and_becomes_running_when_ready():
    record, actions = play((0.0, events.Want()), (0.1, events.Spawned(100)))
    assert (record.state, record.pid, record.deadline) == (State.STARTING, 100, 20.1)
    assert actions == [Spawn(1)]
    record, _ = step(record, events.BecameReady(), 1.0)
    assert (record.state, record.deadline) == (State.RUNNING, 11.0)


def test_a_quarantined_child_starts_only_when_released():
    record, _ = play((0.0, events.Want()), (0.0, events.Quarantine("threat")), (0.1, events.Exited(Exit(signal=9))))
    for event in (events.Want(), events.Restart(), events.Due(), events.Beat(), events.Spawned(3)):
        record, actions = step(record, event, 100.0)
        assert (record.state, actions) == (State.QUARANTINED, ())
    record, actions = step(record, events.Release(), 101.0)
    assert (record.state, actions) == (State.STARTING, (Spawn(2),))


def test_a_stop_asks_then_terms_then_kills():
    record, actions = play((5.0, events.Unwant()), record=running())
    assert (record.state, actions, record.deadline) == (State.STOPPING, [AskStop(10.0)], 15.0)
    record, actions = play((15.0, events.Due()), (17.0, events.Due()), (18.0, events.Due()), record=record)
    assert actions == [Terminate(), Kill(), Kill()]
    record, actions = play((18.1, events.Exited(Exit(signal=9))), record=record)
    assert (record.state, actions, record.failures, record.previous_failure) == (State.STOPPED, [], (), None)


def test_a_restart_stops_gently_and_starts_again():
    record, actions = play((5.0, events.Restart()), (6.0, events.Exited(Exit(code=0))), record=running())
    assert actions == [AskStop(10.0), Spawn(2)]
    assert (record.state, record.restarts, record.failures) == (State.STARTING, 1, ())


def test_the_last_of_conflicting_wishes_counts():
    record, _ = play(
        (5.0, events.Unwant()),
        (5.1, events.Restart()),
        (5.2, events.Unwant()),
        (6.0, events.Exited(Exit(code=0))),
        record=running(),
    )
    assert record.state is State.STOPPED
    record, _ = play(
        (5.0, events.Restart()),
        (5.1, events.Unwant()),
        (5.2, events.Want()),
        (6.0, events.Exited(Exit(code=0))),
        record=running(),
    )
    assert record.state is State.STARTING


def test_a_child_that_comes_up_after_its_stop_is_told_again():
    _, actions = play((0.0, events.Want()), (0.1, events.Unwant()), (0.2, events.Spawned(9)))
    assert actions == [Spawn(1), AskStop(10.0), AskStop(10.0)]
    _, actions = play((0.0, events.Want()), (0.1, events.Quarantine("x")), (0.2, events.Spawned(9)))
    assert actions == [Spawn(1), Kill(), Kill()]


_EVENTS = st.one_of(
    st.just(events.Want()),
    st.just(events.Unwant()),
    st.just(events.Restart()),
    st.just(events.Quarantine("q")),
    st.just(events.Release()),
    st.just(events.Spawned(5)),
    st.just(events.SpawnFailed("no")),
    st.just(events.BecameReady()),
    st.builds(events.Beat, st.sampled_from(list(Health))),
    st.builds(events.LastWords, st.sampled_from(list(Failure)), st.just("w")),
    st.just(events.Misbehaved("m")),
    st.sampled_from([events.Exited(Exit(code=0)), events.Exited(Exit(code=1)), events.Exited(Exit(signal=9))]),
    st.just(events.Due()),
    st.just(events.Admitted()),
    st.just(events.Held("storm")),
    st.just(events.Pardoned()),
    st.builds(events.Hearing, st.booleans(), st.just("deaf")),
    st.builds(events.Stalled, st.floats(0, 30)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), _EVENTS), max_size=60))
def test_any_history_keeps_the_invariants(history: list[tuple[float, events.Event]]):
    record = Record(key=1, policy=POLICY)
    now = 0.0
    asked = False
    for pause, event in history:
        now += pause
        before = record
        record, actions = machine.step(record, event, now)
        asked = (asked and record.state in (State.CONFIGURED, State.BACKOFF)) or AskTurn() in actions
        spawns = [action for action in actions if isinstance(action, Spawn)]
        if spawns:
            assert isinstance(event, events.Admitted)
            assert before.state not in HAS_PROCESS
            assert record.state is State.STARTING
            assert spawns == [Spawn(before.incarnation + 1)], "never two incarnations, never one twice"
        if before.state is State.QUARANTINED:
            assert record.state is State.QUARANTINED or isinstance(event, events.Release)
        if record.state in HAS_PROCESS:
            assert record.deadline is not None, "nothing with a process is ever left without a deadline"
        if record.state is State.BACKOFF:
            assert record.wanted
            assert record.deadline is not None or asked or record.reason == "storm"
        assert len(record.failures) <= POLICY.intensity + 1


def test_a_turn_that_comes_too_late_starts_nobody():
    record, actions = machine.step(Record(key=7, policy=POLICY), events.Want(), 0.0)
    assert (record.state, record.reason, actions) == (State.CONFIGURED, "waits for its turn to start", (AskTurn(),))
    record, _ = machine.step(record, events.Unwant(), 1.0)
    record, actions = machine.step(record, events.Admitted(), 2.0)
    assert (record.state, actions) == (State.STOPPED, ())


def test_a_release_while_the_quarantine_is_under_way_is_not_lost():
    record, _ = play((2.0, events.Quarantine("threat")), (2.1, events.Release()), record=running())
    assert (record.state, record.shut_away) == (State.STOPPING, False)
    record, actions = step(record, events.Exited(Exit(signal=9)), 2.2)
    assert (record.state, actions) == (State.STARTING, (Spawn(2),))
    record, _ = play(
        (2.0, events.Quarantine("threat")), (2.1, events.Unwant()), (2.2, events.Release()),
        (2.3, events.Exited(Exit(signal=9))), record=running(),
    )  # fmt: skip
    assert (record.state, record.reason) == (State.STOPPED, "released")


def test_a_release_while_it_stops_changes_nothing():
    stopping, _ = step(running(), events.Unwant(), 2.0)
    assert step(stopping, events.Release(), 2.1) == Step(stopping)


def test_quarantine_of_a_quarantined_child_is_a_wish_from_then_on():
    record, _ = play(
        (2.0, events.LastWords(Failure.BAD_TOKEN, "401")), (2.1, events.Exited(Exit(code=1))), record=running()
    )
    assert not record.shut_away
    record, _ = step(record, events.Quarantine("threat"), 3.0)
    assert (record.state, record.shut_away, record.reason) == (State.QUARANTINED, True, "401")
    assert step(record, events.Quarantine("threat"), 3.0) == Step(record)


def test_an_answer_of_the_launcher_that_comes_twice_ends_nobody():
    record = running()
    assert step(record, events.SpawnFailed("late"), 2.0) == Step(record)
    assert step(record, events.Spawned(77), 2.0) == Step(record)
