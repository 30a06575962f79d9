"""Makes the surroundings of a new incarnation and has the launcher start its process; lets go of those of the last one.

A child's descriptors are new for every incarnation: its pipes, its log, the file for its stacks. Never blocks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from botctl.runtime import messages, stacks, strangers
from botctl.runtime.allowance import Allowance
from botctl.runtime.cgroups import Cgroups
from botctl.runtime.children import FRAMES_PER_SECOND, Child, Kind
from botctl.runtime.launcher import Launched, Launcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.loop import Loop
from botctl.runtime.pipes import ChildPipes
from botctl.runtime.spawn import SpawnRequest


def hard_by_rlimit(child: Child, groups: Cgroups | None) -> bool:
    """Whether RLIMIT_DATA has to be the hard memory limit, as no control group is (design §4.11)."""
    return not (child.cgroup and groups is not None and "memory" in groups.controllers)


class Starter:
    """`launching` says whether a process may exist whose pid nobody knows yet.

    `serving` gives the generation of the forkserver that serves everybody.
    """

    def __init__(
        self,
        loop: Loop,
        launcher: Launcher,
        logs: LogKeeper,
        cgroups: Cgroups | None,
        serving: Callable[[], int] = lambda: 0,
    ) -> None:
        self._serving = serving
        self._loop = loop
        self._launcher = launcher
        self._logs = logs
        self._cgroups = cgroups
        self._requests: dict[int, tuple[int, int]] = {}
        self._last_request = 0

    @property
    def launching(self) -> bool:
        """Whether a request is under way."""
        return bool(self._requests)

    def start(self, child: Child) -> None:
        """Ask for a process; `answered` tells whose the answer is. Raises OSError: no descriptors, no memory."""
        self.release(child)
        child.log = None
        try:
            self._start(child)
        except OSError:
            self.release(child)
            raise

    def answered(self, answer: Launched) -> tuple[int, int]:
        """Key and incarnation that an answer of the launcher is for."""
        return self._requests.pop(answer.token)

    def abandoned(self) -> list[Launched]:
        """Answers to all requests under way, from a launcher that can give none any more."""
        return [Launched(token, None, "cannot be started: the launcher has died") for token in self._requests]

    def release(self, child: Child) -> None:
        """Let go of everything that belonged to the last incarnation, and end what is left of it."""
        if child.pipes is not None:
            for descriptor in (child.pipes.reports, child.pipes.writer):
                self._loop.forget(descriptor)
            child.pipes.close()
            child.pipes = None
        if child.pidfd is not None:
            self._loop.forget(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None
        if child.stacks is not None:
            os.close(child.stacks)
            child.stacks = None
        if child.log is not None:
            self._logs.ended(child.log)  # its last lines are still to be had
        if child.cgroup and self._cgroups is not None:
            self._cgroups.kill(child.cgroup)
            self._cgroups.remove(child.cgroup)
            child.cgroup = ""

    def _start(self, child: Child) -> None:
        child.log, log = self._logs.open(child.log_name)
        self._last_request += 1
        token = self._last_request
        child.wall_started, child.asked_at = time.time(), strangers.now()
        child.reaped = False
        child.isolated = None
        child.gauges, child.counters, child.heartbeat_at, child.note = {}, {}, None, ""
        child.allowance, child.last_words = Allowance(FRAMES_PER_SECOND), 0
        child.woken = child.dumped = False
        child.rotated = 0
        if child.exec is not None:
            self._requests[token] = (child.key, child.record.incarnation)
            self._launcher.execute(token, child.exec, log)
            return
        try:
            pipes = self._pipes(child)
            child.stacks = stacks.new_file()
            shared = os.dup(child.stacks)  # the launcher closes what it is given
        except OSError:
            os.close(log)
            raise
        self._requests[token] = (child.key, child.record.incarnation)
        descriptors = (pipes.child_commands, pipes.child_reports, log, shared)
        pipes.child_commands = pipes.child_reports = -1
        child.forked_from = child.source.generation or self._serving()
        self._launcher.fork(token, self._request(child, token), descriptors, child.forked_from)

    @staticmethod
    def _pipes(child: Child) -> ChildPipes:
        if child.kind is Kind.BOT:
            child.pipes = ChildPipes(max_body=messages.MAX_FRAME)
        else:
            bound = messages.MAX_CONTROL_FRAME
            child.pipes = ChildPipes(max_body=bound, write_bound=bound)
        return child.pipes

    def _request(self, child: Child, token: int) -> SpawnRequest:
        bot = child.kind is Kind.BOT
        limits = child.limits
        if bot and self._cgroups is not None:
            child.cgroup = self._cgroups.make(
                f"bot-{child.key}-{child.record.incarnation}",
                memory_max=limits.memory,
                cpu=limits.cpu,
                processes=limits.processes,
            )
        return SpawnRequest(
            id=token,
            name=f"bot {child.name}" if bot else child.name,
            mark=f"{child.key}/{child.record.incarnation}",
            entry=child.entry,
            open_files=limits.open_files,
            memory=limits.memory if hard_by_rlimit(child, self._cgroups) else 0,
            file_size=limits.file_size,
            cgroup=child.cgroup,
            expendable=bot,
        )
