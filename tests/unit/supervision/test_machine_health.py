"""What a child reports of itself and what is heard of it: health, memory, age, deafness."""

from __future__ import annotations

import pytest

from botctl.supervision import events
from botctl.supervision.actions import AskStop, Spawn
from botctl.supervision.model import Exit, Failure, Health, Policy, State
from support.one_child import play, running, step


def test_health_decides_between_running_degraded_and_paused():
    record = running()
    for health, state in [
        (Health.DEGRADED, State.DEGRADED),
        (Health.PAUSED, State.PAUSED),
        (Health.OK, State.RUNNING),
        (Health.PAUSED, State.PAUSED),
        (Health.DEGRADED, State.DEGRADED),
    ]:
        record, actions = step(record, events.Beat(health, "why"), 2.0)
        assert (record.state, actions) == (state, ())


def test_too_much_memory_means_draining_and_a_new_start_that_counts_as_a_failure():
    record = running().but(policy=Policy(memory_soft=100.0))
    record, actions = step(record, events.Beat(memory=100.0), 2.0)
    assert (record.state, actions) == (State.RUNNING, ())
    record, actions = step(record, events.Beat(memory=100.1), 3.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, _ = step(record, events.Want(), 3.5)
    record, _ = step(record, events.Exited(Exit(code=0)), 4.0)
    assert (record.state, record.last_failure, record.failures) == (State.BACKOFF, Failure.MEMORY, (4.0,))
    assert record.cause == "100 MB of memory, 100 MB allowed"


def test_an_operators_stop_while_it_drains_for_its_memory_leaves_it_stopped():
    record = running().but(policy=Policy(memory_soft=100.0))
    record, _ = play(
        (2.0, events.Beat(memory=200.0)), (2.1, events.Unwant()), (3.0, events.Exited(Exit(code=0))), record=record
    )
    assert (record.state, record.failures, record.last_words) == (State.STOPPED, (), None)


@pytest.mark.parametrize(
    ("policy", "early", "late"),
    [
        (Policy(max_age=1000.0), (900.0, events.Beat()), (1101.0, events.Beat())),
        (Policy(max_updates=1000), (61.0, events.Beat(updates=899)), (62.0, events.Beat(updates=1100))),
        (Policy(max_updates=1000), (60.9, events.Beat(updates=1e9)), (61.0, events.Beat(updates=1e9))),
    ],
)
def test_age_and_work_recycle_a_bot_without_blame(policy: Policy, early, late):
    record = running().but(policy=policy)
    record, actions = step(record, early[1], early[0])
    assert (record.state, actions) == (State.RUNNING, ())
    record, actions = step(record, late[1], late[0])
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, actions = step(record, events.Exited(Exit(code=0)), late[0] + 1)
    assert (record.state, record.failures, record.last_failure, actions) == (State.STARTING, (), None, (Spawn(2),))


def test_deaf_once_is_degraded_deaf_twice_is_restarted():
    record, _ = step(running(), events.Hearing(deaf=True, reason="12 updates wait"), 2.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait")
    record, _ = step(record, events.Beat(), 3.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait"), "it may feel well, it is deaf"
    record, actions = step(record, events.Hearing(deaf=True, reason="20 updates wait"), 60.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))
    record, _ = step(record, events.Exited(Exit(code=0)), 61.0)
    assert (record.state, record.last_failure, record.cause) == (State.BACKOFF, Failure.DEAF, "20 updates wait")


def test_a_bot_that_hears_again_is_well_with_its_next_heartbeat():
    record, _ = play(
        (2.0, events.Hearing(deaf=True, reason="deaf")), (3.0, events.Hearing(deaf=False)), (4.0, events.Beat()),
        record=running(),
    )  # fmt: skip
    assert (record.state, record.deaf) == (State.RUNNING, "")


def test_a_paused_bot_is_not_recycled_but_its_memory_counts():
    record = running().but(policy=Policy(max_age=10.0, max_updates=10, memory_soft=100.0))
    record, actions = step(record, events.Beat(Health.PAUSED, "database", updates=50.0), 1000.0)
    assert (record.state, actions) == (State.PAUSED, ())
    record, actions = step(record, events.Beat(Health.PAUSED, "database", memory=200.0), 1001.0)
    assert (record.state, actions) == (State.STOPPING, (AskStop(10.0),))


def test_a_deaf_bot_that_says_once_more_that_it_is_ready_is_still_deaf():
    record, _ = play(
        (2.0, events.Hearing(deaf=True, reason="12 updates wait")), (3.0, events.Beat(Health.PAUSED, "database")),
        (4.0, events.BecameReady()), record=running(),
    )  # fmt: skip
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait")


def test_a_bot_that_is_deaf_and_lacks_something_says_both():
    record, _ = step(running(), events.Hearing(deaf=True, reason="12 updates wait"), 2.0)
    record, _ = step(record, events.Beat(Health.DEGRADED, "completion api: no key"), 3.0)
    assert (record.state, record.reason) == (State.DEGRADED, "12 updates wait; completion api: no key")
