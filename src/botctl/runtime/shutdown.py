"""The end of the daemon, in order: bots and set-up, then `control`, then the servers. It never waits.

What is next is looked for in every turn of the loop; who doesn't end in time is `supervision`'s to judge. A process
that doesn't end though it is killed again and again (it is stuck in the kernel; somebody else's debugger holds it) is
left behind: the others, and whoever waits for this daemon, must not wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from botctl.runtime import linux
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.dispatcher import Dispatcher
from botctl.supervision import events
from botctl.supervision.model import HAS_PROCESS

_ORDER = {Kind.BOT: 0, Kind.SETUP: 0, Kind.CONTROL: 1, Kind.SERVICE: 2}
"""Whose turn is when; a turn begins when everybody of the one before has ended."""

MOST_KILLS = 10
"""Rounds of KILLs after which a process is left behind; supervision has one a second."""


class Shutdown:
    """`begun` says whether it has been told to; before that, nothing is done."""

    def __init__(self, children: Children, dispatcher: Dispatcher, log: Callable[..., None]) -> None:
        self.begun = False
        self._children = children
        self._dispatcher = dispatcher
        self._log = log
        self._impatient = False
        self._left_behind: set[int] = set()

    @property
    def done(self) -> bool:
        """Whether every child has ended as well, or is left behind."""
        return self.begun and not self._waited_for()

    def begin(self) -> None:
        """End, from now on."""
        if not self.begun:
            self.begun = True
            self._log("info", "shutting down")
        self.go_on()

    def demand(self) -> None:
        """Somebody signalled it: a second time means that whoever still runs is to be killed, except servers."""
        self._impatient = self._impatient or self.begun
        self.begin()

    def go_on(self) -> None:
        """Once a turn of the loop: ask those to end whose turn it is."""
        alive = self._waited_for() if self.begun else []
        if not alive:
            return
        turn = min(_ORDER[child.kind] for child in alive)
        for child in list(self._children.values()):
            if _ORDER[child.kind] <= turn and child.record.wanted:
                self._dispatcher.dispatch(child, events.Unwant("the daemon shuts down"))
            if self._impatient and child.record.state in HAS_PROCESS and child.kind is not Kind.SERVICE:
                child.kill_group()

    def _waited_for(self) -> list[Child]:
        alive = self._children.alive()
        for child in alive:
            if child.kills >= MOST_KILLS and child.key not in self._left_behind:
                self._left_behind.add(child.key)
                pid = child.record.pid
                note = linux.STATE_NOTES.get(linux.process_state(pid), "") if pid is not None else ""
                self._log("error", "left behind: it does not end, killed or not", name=child.name, pid=pid, note=note)
        return [child for child in alive if child.key not in self._left_behind]
