"""The state machine: `step(record, event, now) -> (record, actions)`, and the table that decides every cell.

Pure. `TABLE` is the documentation of the whole; what a cell does stands in `cells`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botctl.supervision import cells
from botctl.supervision.cells import Step
from botctl.supervision.events import (
    Beat,
    BecameReady,
    Due,
    Event,
    Exited,
    LastWords,
    Misbehaved,
    Quarantine,
    Release,
    Restart,
    Spawned,
    SpawnFailed,
    Unwant,
    Want,
)
from botctl.supervision.model import Record, State

Cell = Callable[[Record, Any, float], Step]


def step(record: Record, event: Event, now: float) -> Step:
    """Decide what an event means for a child in its state. Total: every state has an answer to every event."""
    return TABLE[record.state][type(event)](record, event, now)


_NO_PROCESS: dict[type[Event], Cell] = {
    # Reports of an incarnation that is gone already.
    Spawned: cells.ignore,
    SpawnFailed: cells.ignore,
    BecameReady: cells.ignore,
    Beat: cells.ignore,
    LastWords: cells.ignore,
    Misbehaved: cells.ignore,
    Exited: cells.ignore,
}

_ALIVE: dict[type[Event], Cell] = {
    Want: cells.note_wanted,
    Unwant: cells.stop,
    Restart: cells.stop_and_start,
    Quarantine: cells.kill_and_shut_away,
    Release: cells.ignore,
    Spawned: cells.note_pid,
    SpawnFailed: cells.failed_to_spawn,
    BecameReady: cells.ready,
    Beat: cells.beat,
    LastWords: cells.note_last_words,
    Misbehaved: cells.misbehaved,
    Exited: cells.failed,
    Due: cells.hung,
}

TABLE: dict[State, dict[type[Event], Cell]] = {
    State.CONFIGURED: _NO_PROCESS
    | {
        Want: cells.start,
        Unwant: cells.rest,
        Restart: cells.restart_from_rest,
        Quarantine: cells.shut_away,
        Release: cells.ignore,
        Due: cells.ignore,
    },
    State.STOPPED: _NO_PROCESS
    | {
        Want: cells.start,
        Unwant: cells.ignore,
        Restart: cells.restart_from_rest,
        Quarantine: cells.shut_away,
        Release: cells.ignore,
        Due: cells.ignore,
    },
    State.BACKOFF: _NO_PROCESS
    | {
        Want: cells.note_wanted,
        Unwant: cells.rest,
        Restart: cells.restart_from_rest,
        Quarantine: cells.shut_away,
        Release: cells.ignore,
        Due: cells.start_after_backoff,
    },
    State.QUARANTINED: _NO_PROCESS
    | {
        Want: cells.note_wanted,
        Unwant: cells.note_unwanted,
        Restart: cells.ignore,
        Quarantine: cells.ignore,
        Release: cells.release,
        Due: cells.ignore,
    },
    State.STARTING: _ALIVE | {Due: cells.never_ready},
    State.RUNNING: _ALIVE | {BecameReady: cells.ignore},
    State.DEGRADED: _ALIVE | {BecameReady: cells.ignore},
    State.PAUSED: _ALIVE,
    State.STOPPING: {
        Want: cells.start_after_stop,
        Unwant: cells.stay_after_stop,
        Restart: cells.start_after_stop,
        Quarantine: cells.kill_and_shut_away,
        Release: cells.ignore,
        Spawned: cells.note_pid_and_end,
        SpawnFailed: cells.stopped,
        BecameReady: cells.ignore,
        Beat: cells.ignore,
        LastWords: cells.ignore,
        Misbehaved: cells.ignore,
        Exited: cells.stopped,
        Due: cells.escalate,
    },
    State.FAILED: {
        Want: cells.note_wanted,
        Unwant: cells.note_unwanted,
        Restart: cells.note_wanted,
        Quarantine: cells.kill_and_shut_away,
        Release: cells.ignore,
        Spawned: cells.note_pid_of_condemned,
        SpawnFailed: cells.condemned_gone,
        BecameReady: cells.ignore,
        Beat: cells.ignore,
        LastWords: cells.ignore,
        Misbehaved: cells.ignore,
        Exited: cells.condemned_gone,
        Due: cells.escalate,
    },
}
