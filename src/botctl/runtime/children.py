"""What the supervisor holds of each child: its record, its pipes, its pidfd, its last report; and the book of them all.

Mechanism, no policy: nothing here decides what is to become of a child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from botctl.handover import ExecSpec
from botctl.runtime import linux, messages
from botctl.runtime.allowance import Allowance
from botctl.runtime.log_stream import LogStream
from botctl.runtime.pipes import ChildPipes
from botctl.supervision.model import HAS_PROCESS, Exit, Record

FRAMES_PER_SECOND = 25
"""Frames a bot may send on average; an ordinary one sends one or two. Beyond, it is flooding."""


ROUND = 0.2
"""Seconds from one round of KILLs to the next that counts as another."""


class Kind(StrEnum):
    """What sort of child it is."""

    BOT = "bot"
    CONTROL = "control"
    SETUP = "setup"
    SERVICE = "service"


@dataclass(frozen=True)
class Limits:
    """What one child may use; 0 for no limit. Bytes, but `cpu` in cores."""

    memory: int = 0
    open_files: int = 0
    file_size: int = 0
    cpu: float = 0.0
    processes: int = 0


@dataclass
class Child:
    """One supervised child. Bots have their bot_id as key, the others a negative number.

    `record` is the fleet machine's; the supervisor puts the newest one here.
    """

    key: int
    name: str
    kind: Kind
    record: Record
    entry: str = ""
    exec: ExecSpec | None = None
    config: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"null"))
    credentials: messages.Credentials | None = None
    keys: list[messages.Key] = field(default_factory=list)
    """Its data keys."""
    live: dict[str, Any] = field(default_factory=dict)
    limits: Limits = Limits()
    digest: str = ""
    """Of the configuration it was last given."""
    isolation: messages.Isolation | None = None
    isolated: messages.Isolated | None = None
    """What its process has said of it; None until it has."""
    source: messages.Source = field(default_factory=messages.Source)
    """What its next incarnation is made of."""
    forked_from: int = 0
    """Generation of the forkserver that its process is of."""

    pipes: ChildPipes | None = None
    pidfd: int | None = None
    reaped: bool = False
    """Whether the process of this incarnation has been waited for: its number may be somebody else's now."""
    token: int = 0
    """Of the request that its latest process was made for; the `lineage` of what comes from it has this number."""
    kills: int = 0
    """Rounds of KILLs that its process was to have, whether there was one yet or not."""
    killed_at: float = 0.0
    """When the last of them was, by the monotonic clock."""
    held_since: float = 0.0
    """When its end was first seen to be held up by others, by the monotonic clock; 0 when it was not."""
    on_kill: Callable[[], None] | None = None
    """Does in each round what takes more than signals."""
    stacks: int | None = None
    """Where it writes its stacks (`stacks.new_file`)."""
    log: LogStream | None = None
    """What its latest incarnation has put out."""
    cgroup: str = ""
    """Folder of the control group of its incarnation; empty without one."""
    allowance: Allowance = field(default_factory=lambda: Allowance(FRAMES_PER_SECOND))
    heartbeat_at: float | None = None
    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    wall_since: float = 0.0
    wall_started: float | None = None
    asked_at: float = 0.0
    """When its latest process was asked for, by the clock of `strangers.now`."""
    recorded_state: str = ""
    """Where it was, as its last record tells."""
    recorded_at: float = 0.0
    """When its last transition was recorded, in seconds since the epoch."""
    last_words: int = 0
    """How often it has said what it will die of."""
    pardons: tuple[float, ...] = ()
    """When its failures were pardoned because an update was to blame."""
    rotated: int = 0
    """Generation of the credentials that it has last said it uses."""
    dumped: bool = False
    """Whether it was asked for its stacks; what it writes then may come late."""
    woken: bool = False
    """Whether it had been stopped and was let run for nothing but its stacks: a heartbeat is no sign of health then."""
    note: str = ""
    """What was seen of a process while it was judged, for its death record."""
    failed_at: float | None = None
    """When it last failed, in seconds since the epoch."""
    last_exit: str | None = None
    """How the process of its last failure ended."""
    failures: int = 0
    """How often it has failed of its own doing."""

    @property
    def log_name(self) -> str:
        """Name of its log file, without the ending."""
        return self.name

    def signal(self, sign: signal.Signals) -> None:
        """Signal the child alone."""
        if self.pidfd is not None:
            try:
                signal.pidfd_send_signal(self.pidfd, sign)
            except ProcessLookupError:
                return

    def kill_group(self) -> None:
        """KILL the child and whatever is left of its process group; nobody, once it has been waited for."""
        if self.reaped:
            return
        self.signal(signal.SIGKILL)
        if self.record.pid is not None:
            linux.signal_group(self.record.pid, signal.SIGKILL)
        now = time.monotonic()
        if now >= self.killed_at + ROUND:
            self.kills, self.killed_at = self.kills + 1, now
            if self.on_kill is not None:
                self.on_kill()

    def reap(self) -> Exit | None:
        """Its exit, if it has ended; ends its process group with it."""
        pid = self.record.pid
        if pid is None:
            return None
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            # Before it is waited for: until then nobody else can get its number, nor the group's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            waited, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            self.reaped = True
            return Exit()
        if waited == 0:
            return None
        self.reaped = True
        if os.WIFSIGNALED(status):
            return Exit(signal=os.WTERMSIG(status))
        return Exit(code=os.WEXITSTATUS(status))


class Children(dict[int, Child]):
    """All that are on the books, by key, the oldest entry first."""

    def bots(self) -> list[Child]:
        """All bots, whatever their state."""
        return [child for child in self.values() if child.kind is Kind.BOT]

    def bot(self, bot_id: int) -> Child | None:
        """This bot; None when there is none, or somebody else has that key."""
        child = self.get(bot_id)
        return child if child is not None and child.kind is Kind.BOT else None

    def control(self) -> Child | None:
        """The `control` that listens; None while there is none."""
        return next((child for child in self.values() if child.kind is Kind.CONTROL and child.record.ready), None)

    def alive(self) -> list[Child]:
        """Those that have a process, or have asked for one."""
        return [child for child in self.values() if child.record.state in HAS_PROCESS]
