"""What the supervisor's transitions mean for runs and events."""

from __future__ import annotations

from typing import Any

import pytest

from botctl.bus.event_types.catalogue import validate
from botctl.bus.events import Event
from botctl.control.fleet.lifecycle import ending, meaning
from botctl.control.ports import Transition


def transition(from_state: str, to_state: str, **more: Any) -> Transition:
    given: dict[str, Any] = {
        "seq": 5, "at": 1000.25, "name": "a", "bot_id": 7, "incarnation": 3, "reason": "why",
        "from_state": from_state, "to_state": to_state,
    }  # fmt: skip
    return Transition(**(given | more))


def types(one: Transition) -> list[str]:
    return [event.type for event in meaning(one).events]


@pytest.mark.parametrize(
    ("one", "begins", "ends", "told"),
    [
        (transition("configured", "starting"), 3, None, ["bot.started"]),
        (transition("backoff", "starting"), 3, None, ["bot.started"]),
        (transition("starting", "running", pid=9), None, None, ["bot.ready"]),
        (transition("running", "degraded"), None, None, ["bot.degraded"]),
        (transition("degraded", "running"), None, None, ["bot.recovered"]),
        (transition("running", "paused"), None, None, ["bot.paused"]),
        (transition("paused", "running"), None, None, ["bot.recovered"]),
        (transition("paused", "starting"), None, None, []),
        (transition("running", "stopping"), None, None, []),
        (transition("stopping", "stopped", exit="exit 0"), None, 3, ["bot.stopped"]),
        (transition("configured", "stopped"), None, None, []),
        (transition("stopping", "starting", exit="exit 0"), 4, 3, ["bot.started"]),
        (transition("running", "backoff", exit="signal 9", failure="signal"), None, 3, ["bot.failed"]),
        (transition("running", "failed"), None, None, []),
        (transition("failed", "backoff", exit="signal 9", failure="hang"), None, 3, ["bot.failed"]),
        (
            transition("running", "quarantined", exit="exit 1", failure="bad_token"),
            None, 3, ["bot.failed", "bot.quarantined"],
        ),
        (transition("stopping", "quarantined", exit="signal 9"), None, 3, ["bot.quarantined"]),
        (transition("quarantined", "starting"), 3, None, ["bot.released", "bot.started"]),
        (transition("quarantined", "stopped"), None, None, ["bot.released"]),
    ],
)  # fmt: skip
def test_a_transition_begins_and_ends_runs_and_is_told(
    one: Transition, begins: int | None, ends: int | None, told: list[str]
) -> None:
    means = meaning(one)
    assert (means.begins, means.ends, types(one)) == (begins, ends, told)


def test_every_event_is_as_in_the_catalogue() -> None:
    states = ("configured", "starting", "running", "degraded", "paused", "stopping", "stopped", "failed", "backoff")
    for from_state in (*states, "quarantined"):
        for to_state in (*states, "quarantined"):
            for more in ({}, {"exit": "exit 1"}, {"exit": "signal 9", "failure": "signal", "duration": 0.5}):
                for event in meaning(transition(from_state, to_state, **more)).events:
                    told = Event(id=event.event_id, type=event.type, occurred_at=event.occurred_at, data=event.data)
                    assert validate(told, "fleet")


def test_only_the_first_getupdates_makes_a_run_ready() -> None:
    assert meaning(transition("starting", "running")).ready
    assert not meaning(transition("degraded", "running")).ready


def test_ids_are_the_same_again_and_others_for_another_daemon() -> None:
    def ids(**more: Any) -> list[str]:
        one = transition("running", "quarantined", exit="exit 1", failure="crash", **more)
        return [event.event_id for event in meaning(one).events]

    assert ids() == ids()
    assert len(set(ids())) == 2
    assert not set(ids()) & set(ids(at=2000.25))
    assert not set(ids()) & set(ids(seq=6))


def test_an_ending_has_texts_that_postgresql_takes() -> None:
    tail = tuple(f"line {n}\0\ud800" for n in range(100))
    one = transition(
        "running", "backoff", exit="signal 9", failure="hang", log_tail=tail, cause="no\0 heartbeat",
        action="restarted", stacks="x" * 100_000, memory_mb=17.5, silent_for=10.25, duration=3.5,
    )  # fmt: skip
    how = ending(one)
    assert (how.detail, how.cause, how.action, how.from_state) == ("why", "no heartbeat", "restarted", "running")
    assert (how.failure, how.exit, how.memory_mb, how.silent_for, how.duration) == (
        "hang",
        "signal 9",
        17.5,
        10.25,
        3.5,
    )
    assert (len(how.log_tail), how.log_tail[-1]) == (40, "line 99?")
    assert len(how.stacks or "") == 64 * 1024


def test_an_ending_of_which_little_is_known_has_no_empty_texts() -> None:
    how = ending(transition("running", "stopped", reason="", exit="exit 0"))
    assert (how.detail, how.cause, how.action, how.stacks, how.log_tail) == (None, None, None, None, ())


def test_a_failure_is_told_with_its_cause_and_what_was_done() -> None:
    one = transition("failed", "backoff", exit="signal 9", failure="hang", cause="no heartbeat", action="restarted")
    (told,) = meaning(one).events
    assert (told.data["cause"], told.data["action"]) == ("no heartbeat", "restarted")
