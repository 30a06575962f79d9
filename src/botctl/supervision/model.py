"""The nouns of supervision: states, failures, policies, and the record kept of one supervised child. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Where a child is. Only `starting` to `failed` may have a process; see `HAS_PROCESS`."""

    CONFIGURED = "configured"
    """Known. If it is wanted, it waits for its turn to start."""
    STARTING = "starting"
    """A process was asked for; it has not said that it is ready."""
    RUNNING = "running"
    """Ready and well."""
    DEGRADED = "degraded"
    """Works, but says that something it uses does not."""
    PAUSED = "paused"
    """Alive and waiting for the database, without which it can do nothing; no restart helps, so there is none."""
    STOPPING = "stopping"
    """Asked to end on purpose; `after_stop` says what follows."""
    FAILED = "failed"
    """Judged to have failed (hung, never ready, broke the protocol); its process is being ended."""
    STOPPED = "stopped"
    """Has no process, because nobody wants it to."""
    BACKOFF = "backoff"
    """Failed and will be started again: when its delay is over, its turn has come, and the fleet breaker lets it."""
    QUARANTINED = "quarantined"
    """Failed in a way that restarts don't mend; only `release` starts it again."""


HAS_PROCESS = frozenset({State.STARTING, State.RUNNING, State.DEGRADED, State.PAUSED, State.STOPPING, State.FAILED})
"""States in which a process exists or has been asked for."""


class Failure(StrEnum):
    """Why an incarnation failed; `failures.TREATMENT` says what follows."""

    CRASH = "crash"
    BAD_TOKEN = "bad_token"
    CONFLICT = "conflict"
    CODE = "code"
    HANG = "hang"
    MEMORY = "memory"
    NOT_READY = "not_ready"
    SIGNAL = "signal"
    EXIT = "exit"
    SPAWN = "spawn"
    PROTOCOL = "protocol"
    OOM = "oom"
    DEAF = "deaf"


class Health(StrEnum):
    """What a child says of itself. `paused`: it can't work as the database is away; no restart helps."""

    OK = "ok"
    DEGRADED = "degraded"
    PAUSED = "paused"


class AfterStop(StrEnum):
    """What follows when a stopping child has gone."""

    STAY = "stay"
    START = "start"
    QUARANTINE = "quarantine"
    FAIL = "fail"
    """It was drained because of a failure, which is judged when it has gone."""


class Escalation(StrEnum):
    """How hard a process has been asked to end."""

    NONE = "none"
    ASKED = "asked"
    TERM = "term"
    KILL = "kill"


@dataclass(frozen=True)
class Policy:
    """Restart policy of one child. Durations in seconds.

    More than `intensity` counted failures within `period` end in quarantine, as in OTP's supervisors; None never does.
    A child that was ready for `period` has its backoff reset and is started again at once. `heartbeat_timeout` None:
    the child has no heartbeat. Beyond `memory_soft` (MB, as the child reports it) it is drained and started anew, which
    counts as a failure; at `max_age` or `max_updates`, each give or take a tenth, it is recycled, which does not. None
    or 0: no limit.
    """

    intensity: int | None = 5
    period: float = 60.0
    first_delay: float = 0.1
    max_delay: float = 30.0
    stop_timeout: float = 10.0
    term_timeout: float = 2.0
    kill_timeout: float = 1.0
    dump_timeout: float = 0.2
    ready_timeout: float = 60.0
    heartbeat_timeout: float | None = 10.0
    memory_soft: float = 0.0
    max_age: float = 0.0
    max_updates: int = 0


@dataclass(frozen=True)
class Exit:
    """How a process ended: by `signal`, or with `code`; both None when its exit was never seen.

    `oom`: the signal was the kernel's, which had run out of memory.
    """

    code: int | None = None
    signal: int | None = None
    oom: bool = False

    def __str__(self) -> str:
        if self.signal is not None:
            return f"signal {self.signal}"
        return f"exit {self.code}" if self.code is not None else "vanished"


@dataclass(frozen=True)
class Record:
    """All that supervision knows of one child. Times are of the caller's monotonic clock, in seconds."""

    key: int
    """Identity of the child, for bots the bot_id; also the seed of its jitter."""
    policy: Policy = Policy()
    state: State = State.CONFIGURED
    since: float = 0.0
    wanted: bool = False
    incarnation: int = 0
    pid: int | None = None
    deadline: float | None = None
    """When `Due` is to be reported; what it means depends on the state."""
    ready: bool = False
    ready_at: float | None = None
    been_ready: bool = False
    """Whether any of its incarnations has been ready."""
    started_at: float | None = None
    escalation: Escalation = Escalation.NONE
    after_stop: AfterStop = AfterStop.STAY
    failures: tuple[float, ...] = ()
    """Times of the counted failures within the period."""
    consecutive: int = 0
    """Failures since the child was last stable; the exponent of the backoff."""
    restarts: int = 0
    last_failure: Failure | None = None
    previous_failure: Failure | None = None
    """How the incarnation before this one failed; None when it was stopped on purpose."""
    shut_away: bool = False
    """Whether its quarantine was wished for, and not the outcome of its failures."""
    last_words: Failure | None = None
    """What the child said it would die of, or was condemned for; beats what its exit code suggests."""
    last_detail: str = ""
    """The words that go with `last_words`."""
    deaf: str = ""
    """Why it counts as deaf; empty while it hears."""
    reason: str = ""
    """Why it is in its state."""
    cause: str = ""
    """What the last incarnation that failed ended of."""

    def but(self, **changes: Any) -> Record:
        """The record with some fields changed.

        Does what `dataclasses.replace` does, without calling the constructor with two dozen fields.
        """
        changed = object.__new__(Record)
        fields = changed.__dict__
        fields.update(self.__dict__)
        fields.update(changes)
        return changed

    def enter(self, state: State, now: float, reason: str = "", **changes: Any) -> Record:
        """The record in another state."""
        changes |= {"state": state, "since": now, "reason": reason}
        return self.but(**changes)
