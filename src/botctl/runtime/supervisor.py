"""`ProcessSupervisor`: one thread; feeds what happens to `supervision` and performs what it decides.

Here it is put together, and here is its loop; the work is done in the rooms it is made of. It never waits for a child,
a disk, a database or the network: pipes are non-blocking, starting is the launcher's, log files are the keeper's.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from botctl.runtime import messages
from botctl.runtime.cgroups import Cgroups
from botctl.runtime.children import Child, Children
from botctl.runtime.defects import Defects
from botctl.runtime.desk import Desk
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.exits import Exits
from botctl.runtime.generations import Generations
from botctl.runtime.housekeeping import Housekeeping
from botctl.runtime.launcher import Launcher, Result
from botctl.runtime.launches import Launches
from botctl.runtime.live_limits import LiveLimits
from botctl.runtime.logs import LogKeeper
from botctl.runtime.loop import Loop
from botctl.runtime.owner import Owner
from botctl.runtime.reaper import Reaper
from botctl.runtime.record_keeper import RecordKeeper
from botctl.runtime.reports import Reports
from botctl.runtime.shutdown import Shutdown
from botctl.runtime.snapshots import Snapshots
from botctl.runtime.starter import Starter
from botctl.runtime.wanted_fleet import WantedFleet
from botctl.runtime.wire import Wire
from botctl.supervision import events
from botctl.supervision.fleet_machine import STALL, FleetMachine
from botctl.supervision.model import State

SWITCH_INTERVAL = 0.0005
"""Seconds after which another thread of this process has to hand the interpreter back. Each system call of the loop's
thread may cost it that long while the log keeper is busy; Python's own 5 ms would add up."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT)


class ProcessSupervisor:
    """Runs until it has been told to shut down and every child has ended."""

    def __init__(
        self,
        owner: Owner,
        launcher_for: Callable[[Callable[[Result], None]], Launcher],
        logs: LogKeeper,
        *,
        machine: FleetMachine | None = None,
        groups: Cgroups | None = None,
    ) -> None:
        # Each room knows only those made before it. What has to come back, comes through methods of ours.
        self.owner = owner
        self.children = children = Children()
        self.machine = machine = machine or FleetMachine()
        self.loop = loop = Loop(Defects(owner).take)
        logs.may_work = lambda: loop.waiting
        self._launcher = launcher = launcher_for(self._report)
        self.generations = generations = Generations(launcher, owner.log)
        self._wire = wire = Wire(loop, self._handle, self._abused)
        starter = Starter(loop, launcher, logs, groups, lambda: generations.promoted)
        self._reaper = reaper = Reaper(children, launcher, starter)
        records = RecordKeeper(children, logs, wire.send, machine.breaker)
        self._dispatcher = dispatcher = Dispatcher(
            children=children,
            machine=machine,
            wire=wire,
            starter=starter,
            records=records,
            logs=logs,
            owner=owner,
            setup_failed=self._setup_failed,
        )
        self._shutdown = shutdown = Shutdown(children, dispatcher, owner.log)
        self.wanted = WantedFleet(
            children=children,
            machine=machine,
            dispatcher=dispatcher,
            limits=LiveLimits(groups, owner.log),
            send=wire.send,
            owner=owner,
        )
        self.snapshots = Snapshots(
            children=children,
            machine=machine,
            loop=loop,
            generations=generations,
            wanted=self.wanted,
            shutdown=shutdown,
        )
        self.desk = Desk(
            children=children,
            machine=machine,
            wire=wire,
            dispatcher=dispatcher,
            records=records,
            wanted=self.wanted,
            snapshots=self.snapshots,
            generations=generations,
            shutdown=shutdown,
            owner=owner,
        )
        self._reports = Reports(dispatcher, self.desk, logs, owner)
        self._exits = Exits(
            loop=loop,
            wire=wire,
            starter=starter,
            reaper=reaper,
            records=records,
            dispatcher=dispatcher,
            logs=logs,
            groups=groups,
        )
        self._launches = Launches(
            children=children,
            starter=starter,
            wire=wire,
            exits=self._exits,
            dispatcher=dispatcher,
            generations=generations,
            shutdown=shutdown,
            forkserver_down=self._forkserver_down,
        )
        self._housekeeping = Housekeeping(
            children=children,
            breaker=machine.breaker,
            launcher=launcher,
            logs=logs,
            reaper=reaper,
            records=records,
            shutdown=shutdown,
            owner=owner,
            # After what it has still answered.
            launcher_died=lambda: loop.call(self._launches.abandon),
        )

    # --- what the owner asks ---------------------------------------------------------------------------------------

    @property
    def shutting_down(self) -> bool:
        """Whether it has been told to."""
        return self._shutdown.begun

    def install_signals(self) -> None:
        """Handlers only note the signal; the loop acts on it."""
        self.loop.install_signals(SIGNALS)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def add(self, child: Child) -> None:
        """Put a child on the books; it starts when it is wanted."""
        self._dispatcher.add(child)

    def want(self, child: Child) -> None:
        """Have it run."""
        self._dispatcher.dispatch(child, events.Want())

    def shut_down(self) -> None:
        """Stop bots, then `control`, then servers; `run` returns when all have ended."""
        self._shutdown.begin()

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function; the only way in for other threads."""
        self.loop.call(function)

    # --- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The loop."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._launcher.start()
        while not self._shutdown.done:
            late = self.loop.turn(self._next_look())
            if late > STALL:
                self.loop.attempt(partial(self._was_held_up, late))
            self.loop.attempt(self._take_signals)
            if self._reaper.due or self._reaper.behind:
                self.loop.attempt(self._reaper.reap)
            self.loop.attempt(self._take_deadlines)
            self.loop.attempt(self._housekeeping.do_what_is_due)
            self.loop.attempt(self._shutdown.go_on)
        self._launcher.stop(2.0)
        self._reaper.end_all()

    def _next_look(self) -> float:
        if self._reaper.behind:
            return time.monotonic()
        look = self.machine.next_look()
        due_at = self._housekeeping.due_at
        return due_at if look is None else min(look, due_at)

    def _was_held_up(self, seconds: float) -> None:
        self.owner.log("warning", "the supervisor was held up", seconds=round(seconds, 3))
        self._dispatcher.perform(self.machine.stalled(seconds, time.monotonic()))

    def _take_signals(self) -> None:
        for sign in self.loop.take_signals():
            match sign:
                case signal.SIGCHLD:
                    self._reaper.reap()
                case signal.SIGHUP:
                    self.owner.reloading()
                    self.desk.reload()
                case _:
                    self._shutdown.demand()

    def _take_deadlines(self) -> None:
        now = time.monotonic()
        for key in self.machine.due(now):
            self.loop.defer(partial(self._take_deadline, key))
        self._dispatcher.perform(self.machine.elapse(now))

    def _take_deadline(self, key: int) -> None:
        child = self.children.get(key)
        if child is not None and child.record.pid is not None and child.record.state is not State.STOPPING:
            # What a child has said already counts before its silence does: we may be the late one. One look only:
            # a child that never stops talking gets no more time by it.
            self._wire.look(child)
        now = time.monotonic()
        if self.machine.is_due(key, now):
            self._dispatcher.perform(self.machine.feed(key, events.Due(), now))

    # --- what comes back from the rooms ----------------------------------------------------------------------------

    def _report(self, result: Result) -> None:
        """From the launcher, in its own thread."""
        self.call(lambda: self._launches.take(result))

    def _handle(self, child: Child, message: messages.ControlUpward) -> None:
        self._reports.take(child, message)

    def _abused(self, child: Child, how: str) -> None:
        self._dispatcher.abused(child, how)

    def _setup_failed(self, reason: str) -> None:
        if not self.shutting_down:
            self.owner.boot_failed(reason)

    def _forkserver_down(self, error: str) -> None:
        if self.desk.never_served:
            self.owner.boot_failed(f"the forkserver can't start: {error}")
