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
class Admitted:
    """Its turn to start has come."""


@dataclass(frozen=True)
class Held:
    """The fleet breaker holds back its restart."""

    reason: str


@dataclass(frozen=True)
class Pardoned:
    """Its failures so far don't count: the environment was to blame, or an update that has been given up for it."""


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
    """A heartbeat from the child's own event loop, with its memory (MB) and the updates it has handled so far."""

    health: Health = Health.OK
    reason: str = ""
    memory: float = 0.0
    updates: float = 0.0


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
class Hearing:
    """A look from outside: the child is deaf to what waits for it, or hears again."""

    deaf: bool
    reason: str = ""


@dataclass(frozen=True)
class Due:
    """The record's deadline has passed."""


@dataclass(frozen=True)
class Stalled:
    """The supervisor itself was away for so many seconds: nobody's silence during them counts."""

    seconds: float


Event = (
    Want
    | Unwant
    | Restart
    | Quarantine
    | Release
    | Admitted
    | Held
    | Pardoned
    | Spawned
    | SpawnFailed
    | BecameReady
    | Beat
    | LastWords
    | Misbehaved
    | Exited
    | Hearing
    | Due
    | Stalled
)

EVENTS: tuple[type[Event], ...] = (
    Want,
    Unwant,
    Restart,
    Quarantine,
    Release,
    Admitted,
    Held,
    Pardoned,
    Spawned,
    SpawnFailed,
    BecameReady,
    Beat,
    LastWords,
    Misbehaved,
    Exited,
    Hearing,
    Due,
    Stalled,
)
"""Every kind of event: the columns of the table in `machine`."""
