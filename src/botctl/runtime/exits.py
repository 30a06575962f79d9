"""Sees processes end: waits for them, hears their last words, reads their stacks, and tells supervision how it was.

It judges no exit but one: whether a KILL that nobody of us sent was the kernel's. It never waits for one to come.
"""

from __future__ import annotations

import signal
from dataclasses import replace

from botctl.runtime import cgroups, stacks
from botctl.runtime.children import Child
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.loop import READABLE, Loop
from botctl.runtime.reaper import Reaper
from botctl.runtime.record_keeper import RecordKeeper
from botctl.runtime.starter import Starter
from botctl.runtime.wire import Wire
from botctl.supervision import events
from botctl.supervision.model import Escalation


class Exits:
    """`watch` each process once it has a pidfd; its end is seen to from then on."""

    def __init__(
        self,
        *,
        loop: Loop,
        wire: Wire,
        starter: Starter,
        reaper: Reaper,
        records: RecordKeeper,
        dispatcher: Dispatcher,
        logs: LogKeeper,
        groups: cgroups.Cgroups | None,
    ) -> None:
        self._loop = loop
        self._wire = wire
        self._starter = starter
        self._reaper = reaper
        self._records = records
        self._dispatcher = dispatcher
        self._logs = logs
        self._groups = groups
        self._oom_kills = cgroups.machine_oom_kills()

    def watch(self, child: Child) -> None:
        """See to the end of the child's process, when it comes."""
        child.kills, child.killed_at, child.held_since = 0, 0.0, 0.0
        child.on_kill = lambda: self._kill_more(child)
        self._watch(child)

    def _watch(self, child: Child) -> None:
        if child.pidfd is not None and not self._loop.watches(child.pidfd):
            self._loop.watch(child.pidfd, READABLE, lambda: self._seen(child))

    def _kill_more(self, child: Child) -> None:
        """A KILL is more than a signal: its group ends with it, and in the second round whoever holds it up."""
        if child.cgroup and self._groups is not None:
            self._groups.kill(child.cgroup)
        if child.kills > 1:
            self._reaper.free(child)

    def _seen(self, child: Child) -> None:
        # A death is a millisecond's work, and a hundred may come at once; who lives goes first.
        if child.pidfd is not None:
            self._loop.forget(child.pidfd)
            self._loop.defer(lambda: self.ended(child))

    def ended(self, child: Child) -> None:
        """Its pidfd says that it has ended."""
        ending = child.reap()
        if ending is None:
            # It is readable still: watched now, it would call for us again at once.
            self._reaper.held(child, lambda: self._watch(child))
            return
        self._wire.drain(child)
        if ending.signal == signal.SIGKILL and child.record.escalation is not Escalation.KILL:
            ending = replace(ending, oom=self._was_oom(child))
        written = stacks.read(child.stacks) if child.stacks is not None else ""
        self._records.ending(child, ending, self._logs.redact(child.log_name, written))
        self._starter.release(child)
        self._dispatcher.dispatch(child, events.Exited(ending))
        self._reaper.ended(child)

    def _was_oom(self, child: Child) -> bool:
        """Whether a KILL that we didn't send was the kernel's. Without a control group of its own this is a guess."""
        if child.cgroup and self._groups is not None and "memory" in self._groups.controllers:
            return self._groups.oom_kills(child.cgroup) > 0
        kills, self._oom_kills = self._oom_kills, cgroups.machine_oom_kills()
        return self._oom_kills > kills
