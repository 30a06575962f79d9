"""Words of the death history: what an incarnation ended of, and what was done about it."""

from __future__ import annotations

import pytest

from botctl.supervision import events, explain
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import Exit, Failure, Policy, State
from botctl.supervision.reconcile import Wanted

POLICY = Policy(intensity=2, period=60.0, first_delay=0.1, memory_soft=100.0)


def end(*happenings: events.Event, ending: Exit) -> Change:
    """Play on a running bot, then end its process."""
    machine = FleetMachine()
    machine.add(1, POLICY)
    machine.desire({1: Wanted("a")}, 0.0)
    for event in (events.Spawned(9), events.BecameReady(), *happenings):
        machine.feed(1, event, 1.0)
    (change,) = machine.feed(1, events.Exited(ending), 2.0)
    return change


@pytest.mark.parametrize(
    ("happenings", "ending", "cause", "action"),
    [
        ((), Exit(code=3), "ended with exit code 3", "next start after 0.0"),
        ((), Exit(signal=9), "killed by SIGKILL", "next start at once"),
        ((), Exit(signal=9, oom=True), "killed by the kernel, which had run out of memory", "next start after"),
        ((), Exit(signal=99), "killed by signal 99", "next start after"),
        ((), Exit(), "vanished", "next start after"),
        (
            (events.LastWords(Failure.CRASH, "ZeroDivisionError: by zero"),),
            Exit(code=1),
            "ZeroDivisionError",
            "1 of at",
        ),
        ((events.LastWords(Failure.BAD_TOKEN, "401"),), Exit(code=1), "401", "quarantined: 401"),
        ((events.Beat(memory=200.0),), Exit(code=0), "200 MB of memory, 100 MB allowed", "next start after"),
        ((events.Unwant("stopped by operator"),), Exit(code=0), "stopped by operator", "left stopped"),
        ((events.Restart("configuration changed"),), Exit(code=0), "configuration changed", "started again"),
        ((events.Quarantine("threat"),), Exit(signal=9), "threat", "quarantined"),
    ],
)
def test_an_end_is_told_in_words(happenings, ending: Exit, cause: str, action: str):
    change = end(*happenings, ending=ending)
    assert explain.cause(change.before, change.after, ending).startswith(cause)
    assert action in explain.action(change.after, 2.0)


def test_a_process_that_never_was_is_told_too():
    machine = FleetMachine()
    machine.add(1, POLICY)
    machine.desire({1: Wanted("a")}, 0.0)
    (change,) = machine.feed(1, events.SpawnFailed("forkserver: no answer"), 1.0)
    assert explain.cause(change.before, change.after, None) == "forkserver: no answer"


def test_the_last_failure_tells_how_many_there_were():
    machine = FleetMachine()
    machine.add(1, POLICY)
    machine.desire({1: Wanted("a")}, 0.0)
    now = 0.0
    while machine.records[1].state is not State.QUARANTINED:
        (change,) = machine.feed(1, events.Exited(Exit(code=1)), now)
        now += 1.0
        machine.feed(1, events.Due(), now)
    assert explain.action(change.after, now) == "quarantined: 3 failures within 60 s, the last: exit 1"
