"""Who is silent or late is judged, in time and only then; who speaks in time is not."""

from __future__ import annotations

import pytest

from botctl.supervision import events
from botctl.supervision.actions import DumpStacks, Kill, Spawn
from botctl.supervision.model import Escalation, Exit, Failure, Health, Policy, Record, State
from support.one_child import play, running, step


def test_silence_of_the_event_loop_means_stacks_then_kill():
    record, actions = play((11.0, events.Due()), record=running(1.0))
    assert (record.state, actions) == (State.FAILED, [DumpStacks()])
    assert record.deadline == pytest.approx(11.2)
    record, actions = play((11.2, events.Due()), (11.3, events.Exited(Exit(signal=9))), record=record)
    assert actions == [Kill()]
    assert (record.state, record.last_failure, record.reason) == (State.BACKOFF, Failure.HANG, "no heartbeat for 10 s")


def judged_silent() -> Record:
    record, _ = play((11.0, events.Due()), record=running(1.0))
    return record


@pytest.mark.parametrize(
    ("health", "state"),
    [(Health.OK, State.RUNNING), (Health.DEGRADED, State.DEGRADED), (Health.PAUSED, State.PAUSED)],
)
def test_who_beats_before_it_is_killed_is_acquitted(health: Health, state: State):
    record, actions = step(judged_silent(), events.Beat(health, "busy"), 11.1)
    assert (record.state, record.reason, record.deadline, actions) == (state, "busy", 21.1, ())
    assert (record.last_words, record.last_detail, record.failures) == (None, "", ())


def test_who_beats_after_the_kill_is_killed():
    record, _ = play((11.2, events.Due()), (11.25, events.Beat()), record=judged_silent())
    assert (record.state, record.escalation) == (State.FAILED, Escalation.KILL)


def test_only_silence_is_disproved_by_a_heartbeat():
    late, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (20.1, events.Due()), (20.2, events.Beat()))
    assert (late.state, late.last_words) == (State.FAILED, Failure.NOT_READY)
    said = events.LastWords(Failure.MEMORY, "no more memory")
    record, _ = play((5.0, said), (11.0, events.Due()), (11.1, events.Beat()), record=running(1.0))
    assert (record.state, record.last_words) == (State.FAILED, Failure.MEMORY)


@pytest.mark.parametrize("wish", [events.Unwant(), events.Restart()])
def test_who_is_judged_and_unwanted_ends_at_once_and_for_good(wish: events.Event):
    record, actions = step(judged_silent(), wish, 11.1)
    assert (record.state, record.wanted, actions) == (State.FAILED, isinstance(wish, events.Restart), (Kill(),))
    record, actions = step(record, events.Beat(), 11.15)
    assert (record.state, actions) == (State.FAILED, ())
    assert step(record, wish, 11.16).actions == ()
    record, _ = step(record, events.Exited(Exit(signal=9)), 11.2)
    assert record.state is (State.BACKOFF if isinstance(wish, events.Restart) else State.STOPPED)


def test_a_heartbeat_moves_the_deadline():
    record, _ = play((8.0, events.Beat()), record=running(1.0))
    assert record.deadline == 18.0


def test_a_child_that_waits_for_the_database_is_paused_and_not_judged_late():
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (1.0, events.Beat(Health.PAUSED, "database")))
    assert (record.state, record.deadline) == (State.PAUSED, 11.0)
    record, _ = step(record, events.Beat(Health.OK), 50.0)
    assert (record.state, record.deadline) == (State.STARTING, 70.0)


def test_a_starting_child_that_says_what_it_waits_for_is_not_judged_late():
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(1)), (1.0, events.Beat(Health.OK)))
    assert record.deadline == 20.1
    record, _ = step(record, events.Beat(Health.DEGRADED, "telegram is not reachable"), 15.0)
    assert (record.state, record.deadline, record.reason) == (State.STARTING, 35.0, "telegram is not reachable")


def test_nobodys_silence_counts_while_the_supervisor_was_away():
    record, _ = step(running(1.0), events.Stalled(30.0), 40.0)
    assert record.deadline == 41.0


def test_what_was_heard_after_the_supervisor_was_away_gains_no_time_by_it():
    record, _ = step(running(1.0), events.Beat(), 7200.0)
    assert record.deadline == 7210.0
    record, _ = step(record, events.Stalled(7190.0), 7200.0)
    assert record.deadline == 7210.0, "its silence began after that"
    starting, _ = play((7200.0, events.Want()), (7200.0, events.Stalled(7190.0)))
    assert starting.deadline == 7220.0
    stopping, _ = play((5.0, events.Unwant()), (7.0, events.Stalled(1.0)), (7.5, events.Stalled(9.0)), record=running())
    assert stopping.deadline == 17.5


def test_a_shorter_policy_takes_no_time_away_when_the_supervisor_was_away():
    record = running(1.0).but(policy=Policy(heartbeat_timeout=2.0))
    record, _ = step(record, events.Stalled(3.0), 5.0)
    assert record.deadline == 11.0


def test_what_a_bot_has_said_it_dies_of_is_not_forgotten_when_it_hangs_on_its_way_out():
    record, _ = play(
        (2.0, events.LastWords(Failure.BAD_TOKEN, "Telegram says 401")), (12.0, events.Due()), (12.2, events.Due()),
        (12.3, events.Exited(Exit(signal=9))), record=running(1.0),
    )  # fmt: skip
    assert (record.state, record.last_failure, record.reason) == (
        State.QUARANTINED, Failure.BAD_TOKEN, "Telegram says 401",
    )  # fmt: skip


def test_a_bot_that_has_no_process_yet_is_not_blamed_for_it():
    record, actions = play((0.0, events.Want()), (20.0, events.Due()))
    assert (record.state, record.deadline, actions) == (State.STARTING, 40.0, [Spawn(1)])
