"""The state machine: `step(record, event, now) -> (record, actions)`, and the table that decides every cell.

Pure. `TABLE` is the documentation of the whole (`docs/state-machine.md` is made from it); what a cell does stands in
`cells`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botctl.supervision.cells import ending, living, resting
from botctl.supervision.cells.step import Step, ignore, note_unwanted, note_wanted, pardon
from botctl.supervision.events import (
    Admitted,
    Beat,
    BecameReady,
    Due,
    Event,
    Exited,
    Hearing,
    Held,
    LastWords,
    Misbehaved,
    Pardoned,
    Quarantine,
    Release,
    Restart,
    Spawned,
    SpawnFailed,
    Stalled,
    Unwant,
    Want,
)
from botctl.supervision.model import Record, State

Cell = Callable[[Record, Any, float], Step]


def step(record: Record, event: Event, now: float) -> Step:
    """Decide what an event means for a child in its state. Total: every state has an answer to every event."""
    return TABLE[record.state][type(event)](record, event, now)


_NO_PROCESS: dict[type[Event], Cell] = {
    Pardoned: pardon,
    # It waits for nothing that the breaker, the queue for turns or the clock could tell.
    Admitted: ignore,
    Held: ignore,
    Due: ignore,
    Stalled: ignore,
    # Reports of an incarnation that is gone already.
    Spawned: ignore,
    SpawnFailed: ignore,
    BecameReady: ignore,
    Beat: ignore,
    LastWords: ignore,
    Misbehaved: ignore,
    Exited: ignore,
    Hearing: ignore,
}

_ALIVE: dict[type[Event], Cell] = {
    Want: ignore,
    Unwant: ending.stop,
    Restart: ending.stop_and_start,
    Quarantine: ending.kill_and_shut_away,
    Release: ignore,
    Admitted: ignore,
    Held: ignore,
    Pardoned: pardon,
    # Its process is known already.
    Spawned: ignore,
    SpawnFailed: ignore,
    BecameReady: living.ready,
    Beat: living.beat,
    LastWords: living.note_last_words,
    Misbehaved: living.misbehaved,
    Exited: ending.failed,
    Hearing: ignore,
    Due: living.hung,
    Stalled: living.give_time_to_beat,
}

_ENDING: dict[type[Event], Cell] = {
    Quarantine: ending.kill_and_shut_away,
    Release: ignore,
    Admitted: ignore,
    Held: ignore,
    Pardoned: pardon,
    # It is judged already; what it still says changes nothing.
    BecameReady: ignore,
    Beat: ignore,
    LastWords: ignore,
    Misbehaved: ignore,
    Hearing: ignore,
    Due: ending.escalate,
    Stalled: ending.give_time_to_end,
}

TABLE: dict[State, dict[type[Event], Cell]] = {
    State.CONFIGURED: _NO_PROCESS
    | {
        Want: resting.await_turn,
        Unwant: resting.rest,
        Restart: resting.await_turn,
        Quarantine: resting.shut_away,
        Release: ignore,
        Admitted: resting.begin,
    },
    State.STARTING: _ALIVE
    | {
        Spawned: living.note_pid,
        SpawnFailed: ending.failed_to_spawn,
        Due: living.never_ready,
        Stalled: living.give_time_to_start,
    },
    State.RUNNING: _ALIVE | {BecameReady: ignore, Hearing: living.deafness},
    State.DEGRADED: _ALIVE | {BecameReady: ignore, Hearing: living.deafness},
    State.PAUSED: _ALIVE,
    State.STOPPING: _ENDING
    | {
        Want: ending.start_after_stop,
        Unwant: ending.stay_after_stop,
        Restart: ending.start_after_stop,
        Release: ending.release_after_stop,
        Spawned: ending.note_pid_and_end,
        SpawnFailed: ending.stopped,
        Exited: ending.stopped,
    },
    State.FAILED: _ENDING
    | {
        Want: note_wanted,
        Unwant: ending.end_unwanted,
        Restart: ending.end_for_restart,
        Beat: living.acquit,
        Spawned: ending.note_pid_of_condemned,
        SpawnFailed: ending.condemned_gone,
        Exited: ending.condemned_gone,
    },
    State.STOPPED: _NO_PROCESS
    | {
        Want: resting.await_turn,
        Unwant: ignore,
        Restart: resting.await_turn,
        Quarantine: resting.shut_away,
        Release: ignore,
    },
    State.BACKOFF: _NO_PROCESS
    | {
        Want: ignore,
        Unwant: resting.rest,
        Restart: resting.await_turn,
        Quarantine: resting.shut_away,
        Release: ignore,
        Admitted: resting.begin_again,
        Held: resting.hold,
        Due: resting.await_turn_after_backoff,
    },
    State.QUARANTINED: _NO_PROCESS
    | {
        Want: note_wanted,
        Unwant: note_unwanted,
        Restart: ignore,
        Quarantine: resting.keep_shut_away,
        Release: resting.release,
    },
}
