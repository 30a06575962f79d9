"""How failures are told apart, counted, delayed, and when they end in quarantine."""

from __future__ import annotations

import pytest

from botctl.supervision import events
from botctl.supervision.actions import Kill, Spawn
from botctl.supervision.model import Exit, Failure, Health, Policy, Record, State
from support.one_child import POLICY, play, running, step


def test_a_crash_is_followed_by_a_short_delay_and_a_new_incarnation():
    record, actions = play((5.0, events.Exited(Exit(code=1))), record=running())
    assert (record.state, record.previous_failure, actions) == (State.BACKOFF, Failure.CRASH, [])
    assert record.deadline is not None
    assert 0.05 <= record.deadline - 5.0 < 0.1
    record, actions = play((record.deadline, events.Due()), record=record)
    assert (record.state, record.incarnation, record.restarts, actions) == (State.STARTING, 2, 1, [Spawn(2)])


def test_delays_double_up_to_their_maximum():
    record = Record(key=7, policy=Policy(intensity=None, first_delay=0.1, max_delay=5.0))
    delays = []
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for _ in range(10):
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        assert record.deadline is not None
        delays.append(record.deadline - now)
        now = record.deadline
        record, _ = step(record, events.Due(), now)
    for number, delay in enumerate(delays):
        full = min(5.0, 0.1 * 2**number)
        assert full / 2 <= delay < full


def test_more_failures_than_the_intensity_end_in_quarantine_with_the_reason():
    record = Record(key=7, policy=POLICY)
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for number in range(4):
        assert record.state is State.STARTING, number
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        now = record.deadline or now
        if record.state is State.BACKOFF:
            record, _ = step(record, events.Due(), now)
    assert record.state is State.QUARANTINED
    assert record.reason == "4 failures within 60 s, the last: exit 1"


def test_failures_outside_the_period_are_forgotten():
    record = Record(key=7, policy=POLICY)
    now = 0.0
    record, _ = step(record, events.Want(), now)
    for _ in range(20):
        now += 30.0
        record, _ = step(record, events.Exited(Exit(code=1)), now)
        assert record.state is State.BACKOFF
        record, _ = step(record, events.Due(), now + 5.0)


def test_a_stable_period_resets_the_backoff():
    record, _ = play((0.0, events.Want()), (0.0, events.Exited(Exit(code=1))), (1.0, events.Due()))
    record, _ = play((2.0, events.BecameReady()), (100.0, events.Exited(Exit(code=1))), record=record)
    assert record.consecutive == 1


@pytest.mark.parametrize("failure", [Failure.BAD_TOKEN, Failure.CODE])
def test_what_no_restart_mends_is_quarantined_at_once(failure: Failure):
    record, _ = play(
        (2.0, events.LastWords(failure, "Telegram says 401")), (2.1, events.Exited(Exit(code=1))), record=running()
    )
    assert (record.state, record.reason, record.last_failure) == (State.QUARANTINED, "Telegram says 401", failure)


def test_kills_from_outside_never_quarantine_and_the_delay_keeps_kills_in_a_row_apart():
    record = running()
    now, delays = 1.0, []
    for _ in range(20):
        now += 0.5
        record, _ = step(record, events.Exited(Exit(signal=9)), now)
        assert record.state is State.BACKOFF
        assert record.deadline is not None
        delays.append(record.deadline - now)
        now = record.deadline
        record, _ = play((now, events.Due()), (now, events.Spawned(1)), (now, events.BecameReady()), record=record)
    assert delays[0] < 0.1
    assert delays[-1] > 2.4, "who kills itself over and over is started ever more seldom"
    record, _ = step(record, events.Exited(Exit(signal=9)), now + 1.0)
    assert record.deadline == now + 1.0, "who has been well for a second is started at once"


def test_a_pardon_leaves_the_delay_as_long_as_it_was():
    record, _ = play((1.0, events.Exited(Exit(code=1))), (2.0, events.Due()), record=running())
    pardoned, actions = step(record, events.Pardoned(), 2.0)
    assert (pardoned.failures, pardoned.consecutive, actions) == ((), record.consecutive, ())


def test_a_child_that_breaks_the_protocol_is_killed_and_judged():
    record, actions = play((2.0, events.Misbehaved("garbage")), (2.1, events.Exited(Exit(signal=9))), record=running())
    assert actions == [Kill()]
    assert (record.state, record.last_failure) == (State.BACKOFF, Failure.PROTOCOL)


def test_what_the_kernel_killed_for_lack_of_memory_is_told_from_other_kills():
    record, _ = step(running(), events.Exited(Exit(signal=9, oom=True)), 2.0)
    assert (record.last_failure, record.failures) == (Failure.OOM, (2.0,))
    record, _ = step(running(), events.Exited(Exit(signal=9)), 2.0)
    assert (record.last_failure, record.failures) == (Failure.SIGNAL, ())


def test_an_old_trouble_is_not_taken_for_the_cause_of_death():
    record, _ = play(
        (2.0, events.Beat(Health.DEGRADED, "redis: not reachable")), (3.0, events.Exited(Exit(code=1))),
        record=running(),
    )  # fmt: skip
    assert (record.last_failure, record.cause) == (Failure.CRASH, "exit 1")


def test_failures_that_do_not_count_never_quarantine_whatever_the_policy_has_become():
    record = running().but(failures=(0.5, 0.6, 0.7), policy=Policy(intensity=1))
    record, _ = step(record, events.Exited(Exit(signal=9)), 2.0)
    assert (record.state, record.last_failure) == (State.BACKOFF, Failure.SIGNAL)


def test_nobody_fails_without_a_cause_however_little_was_said():
    record, _ = play((2.0, events.LastWords(Failure.CRASH, "")), (2.1, events.Exited(Exit(code=3))), record=running())
    assert (record.state, record.cause, record.reason) == (State.BACKOFF, "exit 3", "exit 3")
    record, _ = play(
        (2.0, events.LastWords(Failure.CRASH, "")), (11.0, events.Due()), (11.5, events.Exited(Exit(signal=9))),
        record=running(1.0),
    )  # fmt: skip
    assert (record.last_failure, record.cause) == (Failure.CRASH, "no heartbeat for 10 s")
    record, _ = play((2.0, events.Hearing(deaf=True)), (2.1, events.Hearing(deaf=True)), record=running())
    record, _ = step(record, events.Exited(Exit(code=0)), 2.2)
    assert (record.last_failure, record.cause) == (Failure.DEAF, "it takes no updates")


def test_a_bot_killed_from_outside_is_started_at_once_unless_kills_come_in_a_row():
    record, _ = step(running(1.0), events.Exited(Exit(signal=9)), 2.0)
    assert (record.state, record.deadline) == (State.BACKOFF, 2.0)
    record, _ = step(running(1.0), events.Exited(Exit(signal=9)), 1.9)
    assert record.deadline is not None
    assert 0.05 <= record.deadline - 1.9 < 0.1


def test_a_bot_that_fails_after_a_stable_period_is_started_at_once_and_then_with_delays():
    record, _ = step(running(1.0), events.Exited(Exit(code=1)), 61.0)
    assert (record.state, record.deadline, record.consecutive) == (State.BACKOFF, 61.0, 1)
    record, _ = play((61.0, events.Due()), (62.0, events.Exited(Exit(code=1))), record=record)
    assert record.deadline is not None
    assert 0.1 <= record.deadline - 62.0 < 0.2
