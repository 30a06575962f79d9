"""What the oracle knows of one child: facts that follow from what was fed, in its own terms.

The state that must be shown, and what the record must say, are derived from the facts.
"""

from __future__ import annotations

from botctl.supervision.model import Failure, Policy, Record, State

RESTING, ASKED, UP = 0, 1, 2
"""No process; one was asked for; there is one."""

NOT, TOLD, TERM, KILL = 0, 1, 2, 3
"""How hard a process has been asked to end."""


class View:
    """Facts of one child on the books."""

    __slots__ = (
        "afterwards",
        "been_ready",
        "cause",
        "deaf",
        "degraded",
        "due",
        "due_most",
        "ending",
        "failures",
        "hard",
        "incarnation",
        "judged",
        "key",
        "last_failure",
        "leaving",
        "newer_than",
        "paced",
        "paused",
        "pid",
        "policy",
        "previous",
        "process",
        "queued",
        "ready",
        "ready_at",
        "reason",
        "record",
        "rest",
        "restarts",
        "row",
        "said",
        "said_why",
        "seen",
        "shut",
        "since",
        "started_at",
        "stops_by",
        "waits",
        "wanted",
        "wish",
    )

    def __init__(self, key: int, policy: Policy, record: Record, *, paced: bool, incarnation: int) -> None:
        self.key = key
        self.policy = policy
        self.record = record
        self.paced = paced
        self.incarnation = incarnation
        self.wanted = False
        self.process = RESTING
        self.pid: int | None = None
        self.shut = ""
        """Quarantined: by a `wish` or by its `failures`."""
        self.ending = False
        self.judged = False
        self.afterwards = "stay"
        """What follows a stop: stay, start, quarantine, fail."""
        self.hard = NOT
        self.ready = self.paused = self.degraded = False
        self.been_ready = False
        """Whether any incarnation has been ready."""
        self.deaf = ""
        self.ready_at: float | None = None
        self.started_at: float | None = None
        self.waits = ""
        """Without a process: for a `turn`, for its `delay`; `held` by the breaker."""
        self.queued = False
        self.rest = State.CONFIGURED
        self.due: float | None = None
        self.due_most = 0.0
        self.failures: list[float] = []
        self.row = 0
        self.said: Failure | None = None
        self.said_why = ""
        self.cause = ""
        """What the last failure was."""
        self.restarts = 0
        self.last_failure: Failure | None = None
        self.previous: Failure | None = None
        self.reason = ""
        """What the record's reason must be, or contain; empty: nothing is asked."""
        self.since = 0.0
        self.seen = record.state
        self.leaving = False
        self.wish = "none"
        """What operators and the fleet last wished, by themselves: run, rest, or nothing yet."""
        self.newer_than = 0
        """A restart was promised: an incarnation beyond this one must run."""
        self.stops_by: float | None = None

    @property
    def lives(self) -> bool:
        """Has a process that is meant to be there."""
        return self.process != RESTING and not self.ending and not self.judged

    def shown(self) -> State:
        """The state that follows from the facts."""
        if self.process:
            if self.judged:
                return State.FAILED
            if self.ending:
                return State.STOPPING
            if self.paused:
                return State.PAUSED
            if not self.ready:
                return State.STARTING
            return State.DEGRADED if self.degraded else State.RUNNING
        if self.shut:
            return State.QUARANTINED
        if self.waits == "turn":
            return State.CONFIGURED
        if self.waits:
            return State.BACKOFF
        return self.rest
