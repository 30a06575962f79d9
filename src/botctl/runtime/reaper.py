"""Waits for processes that are nobody's child on the books: the forkserver, orphans of bots, strangers of a container.

The supervisor adopts what loses its parent below it, and as PID 1 whatever does in its namespace.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Mapping

from botctl.runtime import linux, strangers
from botctl.runtime.children import Child, Kind
from botctl.runtime.launcher import Launcher
from botctl.runtime.starter import Starter
from botctl.supervision.model import HAS_PROCESS

LAST_ORPHANS_TIMEOUT = 2.0

PATIENCE = 0.9
"""Seconds for which a debugger that is none of ours may hold a process that has ended, or is to end."""

AT_ONCE = 100
"""Strangers waited for in one round."""


class Reaper:
    """`children` are those on the books. `due` is set where orphans are to be expected."""

    def __init__(
        self,
        children: Mapping[int, Child],
        launcher: Launcher,
        starter: Starter,
    ) -> None:
        self.due = False
        self.behind = False
        """Whether there was more to do than fits into one round."""
        # As PID 1 we adopt what was never a bot's.
        self._orphans = strangers.Orphans(launcher.run, ends_unmarked=os.getpid() != 1)
        self._children = children
        self._launcher = launcher
        self._starter = starter
        self._held: list[Callable[[], None]] = []

    def ended(self, child: Child) -> None:
        """The process of a child has ended and been waited for."""
        self.due = True
        if child.kind is Kind.BOT:
            self._orphans.over(child.asked_at)

    def held(self, child: Child, look_again: Callable[[], None]) -> None:
        """The process of a child has ended, and somebody who traces it keeps it from us. `look_again` is called when
        another process has ended, or a second later."""
        self._held.append(look_again)
        self.free(child)

    def free(self, child: Child) -> None:
        """KILL whoever traces the process of a child, and its orphans: by their doing it may never end. Who is below
        no child of ours, an operator's strace, has a moment to see to it."""
        if child.record.pid is None:
            return
        now = time.monotonic()
        child.held_since = child.held_since or now
        for pid in linux.tracers(child.record.pid) - {os.getpid()}:
            if now < child.held_since + PATIENCE and not self._orphans.is_ours(pid):
                continue
            child.note = f"process {pid} traced it and held up its end"
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if child.token:
            self._orphans.end_of(child.token, self._known())

    def look_again(self) -> None:
        """To be called now and then: some can't be judged at first sight."""
        self.due = self.due or self._orphans.undecided or bool(self._held)

    def reap(self) -> None:
        """End adopted orphans of bots that have ended; wait for every stranger that has."""
        held, self._held = self._held, []
        for look_again in held:
            look_again()
        self.due = self._starter.launching
        if self.due:
            # A child whose pid we don't know yet must not be mistaken for a stranger. There is no hurry before that.
            self.behind = False
            return
        known = self._known()
        self.behind = not self._orphans.end(known, self._who_lives)
        for _ in range(AT_ONCE):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in known:
                return
            with contextlib.suppress(ChildProcessError):
                os.waitpid(found.si_pid, os.WNOHANG)
            self._orphans.forget(found.si_pid)
        self.behind = True

    def end_all(self) -> None:
        """KILL and wait for everything that is left of this daemon; for its very end."""
        strangers.end_marked(self._launcher.run)
        deadline = time.monotonic() + LAST_ORPHANS_TIMEOUT
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                strangers.end_all_but(set())  # each may leave orphans of its own
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    select.select([], [], [], 0.005)

    def _known(self) -> set[int]:
        pids = {child.record.pid for child in self._children.values() if child.record.pid is not None}
        return pids | self._launcher.forkserver_pids

    def _who_lives(self) -> strangers.Living:
        alive = [child for child in self._children.values() if child.record.state in HAS_PROCESS]
        bots = [child for child in alive if child.kind is Kind.BOT]
        return strangers.Living(
            starts={child.token for child in alive},
            bots={(child.key, child.record.incarnation): child.asked_at for child in bots},
            others={(child.key, child.record.incarnation) for child in alive if child.kind is not Kind.BOT},
        )
