"""What the supervisor holds of each child: its record, its pipes, its pidfd, its last report. Mechanism, no policy."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from botctl.handover import ExecSpec
from botctl.runtime import linux, messages
from botctl.runtime.allowance import Allowance
from botctl.runtime.pipes import ChildPipes
from botctl.supervision.model import Exit, Policy, Record
from botctl.supervision.reconcile import Wanted

FRAMES_PER_SECOND = 25
"""Frames a bot may send on average; an ordinary one sends one or two. Beyond, it is flooding."""


class Kind(StrEnum):
    """What sort of child it is."""

    BOT = "bot"
    CONTROL = "control"
    SETUP = "setup"
    SERVICE = "service"


@dataclass
class Child:
    """One supervised child. Bots have their bot_id as key, the others a negative number."""

    key: int
    name: str
    kind: Kind
    record: Record
    entry: str = ""
    exec: ExecSpec | None = None
    config: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b"null"))
    credentials: messages.Credentials | None = None
    live: dict[str, Any] = field(default_factory=dict)
    wanted: Wanted | None = None
    memory: int = 0
    open_files: int = 0
    forget: bool = False
    """Drop it from the books once it has stopped."""

    pipes: ChildPipes | None = None
    pidfd: int | None = None
    log_token: int = -1
    scheduled: float | None = None
    """The earliest entry of its deadline in the supervisor's heap."""
    allowance: Allowance = field(default_factory=lambda: Allowance(FRAMES_PER_SECOND))
    heartbeat_at: float | None = None
    gauges: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)
    wall_since: float = 0.0
    wall_started: float | None = None
    recorded_at: float = 0.0
    """When its last transition was recorded, in seconds since the epoch."""

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
        """KILL the child and whatever is left of its process group."""
        self.signal(signal.SIGKILL)
        if self.record.pid is not None:
            linux.signal_group(self.record.pid, signal.SIGKILL)

    def reap(self) -> Exit | None:
        """Its exit, if it has ended; ends its process group with it."""
        if self.record.pid is None:
            return None
        try:
            pid, status = os.waitpid(self.record.pid, os.WNOHANG)
        except ChildProcessError:
            return Exit()
        if pid == 0:
            return None
        # The group outlives its leader as long as it has members, and then nobody else can get its number.
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pid = 0
        if os.WIFSIGNALED(status):
            return Exit(signal=os.WTERMSIG(status))
        return Exit(code=os.WEXITSTATUS(status))


def bot_policy(policy: messages.RestartPolicy) -> Policy:
    """The fleet file's restart policy as supervision has it."""
    return Policy(
        intensity=policy.intensity,
        period=policy.period,
        first_delay=policy.first_delay,
        max_delay=policy.max_delay,
        stop_timeout=policy.stop_timeout,
        ready_timeout=policy.ready_timeout,
        heartbeat_timeout=policy.heartbeat_timeout,
    )


CONTROL_POLICY = Policy(intensity=None, first_delay=0.1, max_delay=5.0, stop_timeout=5.0, ready_timeout=90.0)
"""`control` is always tried again; the bots run on without it."""

SETUP_POLICY = Policy(intensity=0, ready_timeout=300.0, heartbeat_timeout=None, stop_timeout=5.0)
"""Set-up happens once; its failure is the daemon's."""


def service_policy(spec: ExecSpec) -> Policy:
    """Embedded servers have no heartbeat and are always tried again."""
    return Policy(
        intensity=None, first_delay=0.05, max_delay=2.0, stop_timeout=spec.stop_timeout, heartbeat_timeout=None
    )
