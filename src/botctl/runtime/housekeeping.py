"""What the supervisor does about once a second: looks after its own threads and after orphans, and tells of the fleet.

Nothing here concerns a single bot, and nothing here is urgent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from botctl.runtime.children import Children
from botctl.runtime.launcher import Launcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.owner import Owner
from botctl.runtime.reaper import Reaper
from botctl.runtime.record_keeper import RecordKeeper
from botctl.runtime.shutdown import Shutdown
from botctl.supervision.breaker import Breaker

EVERY = 1.0
"""Seconds from one time to the next; also between calls of `Owner.pulse`."""


class Housekeeping:
    """`due_at` is the next time, by the monotonic clock. `launcher_died` is told so every time."""

    def __init__(
        self,
        *,
        children: Children,
        breaker: Breaker,
        launcher: Launcher,
        logs: LogKeeper,
        reaper: Reaper,
        records: RecordKeeper,
        shutdown: Shutdown,
        owner: Owner,
        launcher_died: Callable[[], None],
    ) -> None:
        self.due_at = 0.0
        self._children = children
        self._breaker = breaker
        self._launcher = launcher
        self._logs = logs
        self._reaper = reaper
        self._records = records
        self._shutdown = shutdown
        self._owner = owner
        self._launcher_died = launcher_died
        self._breaker_told = ""

    def do_what_is_due(self) -> None:
        """To be called in every turn of the loop."""
        now = time.monotonic()
        if now < self.due_at:
            return
        self.due_at = now + EVERY
        self._reaper.look_again()
        self._look_at_threads()
        self._records.settle()
        self._tell_of_the_breaker()
        self._owner.pulse(Counter(child.record.state.value for child in self._children.bots()))

    def _look_at_threads(self) -> None:
        """Nobody else would notice the end of one, and without it this is no supervisor any more."""
        if not self._launcher.alive:
            self._launcher_died()
        dead = [name for name, part in (("launcher", self._launcher), ("log keeper", self._logs)) if not part.alive]
        if dead and not self._shutdown.begun:
            self._owner.broken(f"died by an error of its own: {', '.join(dead)}")

    def _tell_of_the_breaker(self) -> None:
        if self._breaker.reason == self._breaker_told:
            return
        self._breaker_told = self._breaker.reason
        if self._breaker_told:
            self._owner.log("error", "fleet breaker open", reason=self._breaker_told, held_back=self._breaker.held)
        else:
            self._owner.log("info", "fleet breaker closed")
