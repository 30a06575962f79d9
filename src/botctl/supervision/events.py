"""What can happen to a supervised child. Facts and wishes, in the past tense or the imperative; values only."""

from __future__ import annotations

from dataclasses import dataclass

from botctl.supervision.model import Exit, Failure, Health


@dataclass(frozen=True)
class Want:
    """The child belongs to the wanted fleet."""


@dataclass(frozen=True)
class Unwant:
    """The child shall not run: an operator's stop, or it left the fleet."""

    reason: str = "stopped by operator"


@dataclass(frozen=True)
class Restart:
    """The child shall run anew: an operator's wish, or its configuration changed."""

    reason: str = "restarted by operator"


@dataclass(frozen=True)
class Quarantine:
    """The child shall be shut away at once."""

    reason: str


@dataclass(frozen=True)
class Release:
    """An operator ends the quarantine; past failures are forgotten."""


@dataclass(frozen=True)
class Spawned:
    """The process exists."""

    pid: int


@dataclass(frozen=True)
class SpawnFailed:
    """No process could be made."""

    reason: str


@dataclass(frozen=True)
class BecameReady:
    """The child does its job."""


@dataclass(frozen=True)
class Beat:
    """A heartbeat from the child's own event loop."""

    health: Health = Health.OK
    reason: str = ""


@dataclass(frozen=True)
class LastWords:
    """The child says what it will die of."""

    failure: Failure
    reason: str


@dataclass(frozen=True)
class Misbehaved:
    """The child broke the protocol of its pipe: too long a frame, or nothing in the schema."""

    reason: str


@dataclass(frozen=True)
class Exited:
    """The process is gone."""

    exit: Exit


@dataclass(frozen=True)
class Due:
    """The record's deadline has passed."""


Event = (
    Want
    | Unwant
    | Restart
    | Quarantine
    | Release
    | Spawned
    | SpawnFailed
    | BecameReady
    | Beat
    | LastWords
    | Misbehaved
    | Exited
    | Due
)

EVENTS: tuple[type[Event], ...] = (
    Want,
    Unwant,
    Restart,
    Quarantine,
    Release,
    Spawned,
    SpawnFailed,
    BecameReady,
    Beat,
    LastWords,
    Misbehaved,
    Exited,
    Due,
)
"""Every kind of event: the columns of the table in `machine`."""
