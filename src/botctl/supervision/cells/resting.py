"""Cells of a child that has no process: waiting for its turn, for its delay, for an operator, for nothing."""

from __future__ import annotations

from botctl.supervision.actions import AskTurn, Spawn
from botctl.supervision.cells.step import Step
from botctl.supervision.events import Admitted, Due, Held, Quarantine, Release, Restart, Unwant, Want
from botctl.supervision.model import AfterStop, Record, State

WAITS = "waits for its turn to start"


def await_turn(record: Record, event: Want | Restart, now: float) -> Step:
    """Ask for a turn to start."""
    return queue_up(record.but(wanted=True, consecutive=0), now)


def await_turn_after_backoff(record: Record, event: Due, now: float) -> Step:
    """The delay is over: ask for a turn to start."""
    return Step(record.but(deadline=None), (AskTurn(),))


def begin(record: Record, event: Admitted, now: float) -> Step:
    """Its turn: make a process."""
    return _start(record, now) if record.wanted else Step(record)


def begin_again(record: Record, event: Admitted, now: float) -> Step:
    """Its turn after a failure: make a process."""
    return _start(record.but(restarts=record.restarts + 1), now)


def hold(record: Record, event: Held, now: float) -> Step:
    """Stay until the fleet breaker lets it go."""
    return Step(record.but(deadline=None, reason=event.reason))


def rest(record: Record, event: Unwant, now: float) -> Step:
    """No process and none wanted."""
    return Step(record.enter(State.STOPPED, now, event.reason, wanted=False, deadline=None))


def shut_away(record: Record, event: Quarantine, now: float) -> Step:
    """Quarantine a child that has no process."""
    return Step(record.enter(State.QUARANTINED, now, event.reason, deadline=None, shut_away=True))


def keep_shut_away(record: Record, event: Quarantine, now: float) -> Step:
    """In quarantine already; from now on because somebody wishes it."""
    return Step(record.but(shut_away=True))


def release(record: Record, event: Release, now: float) -> Step:
    """Forget the failures; ask for a turn to start if it is wanted."""
    cleared = record.but(failures=(), consecutive=0, shut_away=False)
    return queue_up(cleared, now) if cleared.wanted else Step(cleared.enter(State.STOPPED, now, "released"))


def queue_up(record: Record, now: float) -> Step:
    """Wait for a turn to start."""
    return Step(record.enter(State.CONFIGURED, now, WAITS, deadline=None), (AskTurn(),))


def _start(record: Record, now: float) -> Step:
    incarnation = record.incarnation + 1
    return Step(
        record.enter(
            State.STARTING,
            now,
            incarnation=incarnation,
            started_at=now,
            deaf="",
            after_stop=AfterStop.STAY,
            deadline=now + record.policy.ready_timeout,
        ),
        (Spawn(incarnation),),
    )
