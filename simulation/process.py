"""A simulated process: what it has written, what it has been told, and how it takes that. Decides nothing."""

from __future__ import annotations

from enum import Enum

from botctl.supervision.events import Beat, BecameReady, LastWords, Misbehaved
from botctl.supervision.model import Exit, Health
from simulation.orders import Order


class Kind(Enum):
    """What sort of child it is; in the order in which they are shut down."""

    BOT = 0
    SETUP = 1
    CONTROL = 2
    SERVICE = 3


Report = Beat | BecameReady | LastWords | Misbehaved | Order
"""What a process writes. `Misbehaved` stands for bytes that are no frame."""

CAPACITY = 10
"""Reports that a pipe holds; a process whose pipe is full waits until somebody reads."""


class Process:
    """One incarnation: from the request for it to its end. `pipe` are its reports that nobody has read."""

    __slots__ = (
        "alive",
        "asked_at",
        "beat_every",
        "beating",
        "blocked",
        "born_at",
        "drain_exit",
        "drain_time",
        "exit",
        "frozen",
        "grows",
        "hung_up",
        "incarnation",
        "key",
        "kill_time",
        "killed",
        "kind",
        "known",
        "last_beat",
        "last_words",
        "listened",
        "memory",
        "mood",
        "mood_reason",
        "pid",
        "pipe",
        "ready",
        "stop_seen",
        "stopped",
        "term_ignored",
        "term_pending",
        "updates",
        "updates_step",
        "waiting",
        "woken",
    )

    def __init__(self, key: int, kind: Kind, incarnation: int) -> None:
        self.key = key
        self.kind = kind
        self.incarnation = incarnation
        self.pid: int | None = None
        self.alive = False
        self.asked_at = self.born_at = 0.0
        self.exit: Exit | None = None
        self.pipe: list[Report] = []
        self.known = False
        """Whether the supervisor knows its pid, and can signal it."""
        self.listened = False
        """Whether the supervisor reads it: as soon as it has dealt with the pid."""
        self.hung_up = False
        self.waiting = False
        """Whether the loop has been told that there is something to read."""
        self.last_words = 0
        self.ready = False
        self.frozen = False
        """Its event loop stands still."""
        self.stopped = False
        """By SIGSTOP: no signal but KILL reaches it."""
        self.beating = False
        self.blocked = False
        """Its pipe is full."""
        self.beat_every = 1.0
        self.last_beat: float | None = None
        """When it last wrote a heartbeat."""
        self.mood = Health.OK
        self.mood_reason = ""
        self.memory = 0.0
        self.grows = 0.0
        self.updates = 0.0
        self.updates_step = 0.0
        self.stop_seen = False
        self.drain_time: float | None = 0.0
        """Seconds it takes to end when asked; None: it never does."""
        self.drain_exit = Exit(code=0)
        self.term_ignored = False
        self.term_pending = False
        self.kill_time = 0.0
        """Seconds the kernel takes to end it."""
        self.killed = False
        self.woken = False
        """Stopped, and let run for its stacks: its heartbeats count no more."""
