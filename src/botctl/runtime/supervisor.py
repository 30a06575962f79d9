"""`ProcessSupervisor`: one thread; feeds what happens to `supervision` and performs what it decides.

It never waits for a child, a disk, a database or the network: pipes are non-blocking, starting is the launcher's, log
files are the keeper's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from botctl.errors import ProtocolError
from botctl.runtime import cgroups, linux, messages, stacks
from botctl.runtime.children import Child, Kind
from botctl.runtime.desk import Desk
from botctl.runtime.generations import Generations
from botctl.runtime.launcher import ForkserverDown, Launched, Launcher, Result
from botctl.runtime.logs import LogKeeper
from botctl.runtime.loop import READABLE, Loop
from botctl.runtime.reaper import Reaper
from botctl.runtime.spawn import STACKS_SIGNAL
from botctl.runtime.starter import Starter
from botctl.runtime.wire import Wire
from botctl.supervision import events
from botctl.supervision.actions import Action, AskStop, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.fleet_machine import STALL, Change, FleetMachine
from botctl.supervision.model import HAS_PROCESS, Escalation, State

LAST_WORDS = 3
"""What a child will die of can be said better once or twice; more often it is meant to keep us busy."""

SWITCH_INTERVAL = 0.0005
"""Seconds after which another thread of this process has to hand the interpreter back. Each system call of the loop's
thread may cost it that long while the log keeper is busy; Python's own 5 ms would add up."""

REDACTED = 8192
"""Characters of a bot's words that are looked through for secrets; fewer of them are kept."""

PULSE_EVERY = 1.0
"""Seconds between calls of `Owner.pulse`."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT)


class Owner(Protocol):
    """The composition root's side: what the supervisor tells it."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """A line for the daemon's log."""

    def setup_done(self, result: bytes) -> None:
        """Set-up has ended well; `result` is the JSON of `handover.SetupResult`."""

    def boot_failed(self, message: str) -> None:
        """The daemon can't come up; shut down with this message."""

    def broken(self, message: str) -> None:
        """The daemon can't go on; shut down as failed, so that whoever watches it starts it anew."""

    def serving(self) -> None:
        """`control` serves its API for the first time."""

    def configure(self, child: Child) -> messages.Configure:
        """The first frame for a new incarnation."""

    def keep_secret(self, secrets: list[str]) -> None:
        """These must never stand in a log."""

    def pulse(self, states: dict[str, int]) -> None:
        """About once a second, from the loop; the number of bots by the name of their state."""

    def reloading(self) -> None:
        """SIGHUP has come; `control` is told to read the fleet file again."""

    def desired(self, generation: int) -> None:
        """`control` has sent a wanted fleet, and it is being made so."""


class ProcessSupervisor:
    """Runs until it has been told to shut down and every child has ended."""

    def __init__(
        self,
        owner: Owner,
        launcher_for: Callable[[Callable[[Result], None]], Launcher],
        logs: LogKeeper,
        *,
        machine: FleetMachine | None = None,
        groups: cgroups.Cgroups | None = None,
    ) -> None:
        self.children: dict[int, Child] = {}
        self.machine = machine or FleetMachine()
        self.owner = owner
        self.logs = logs
        self.loop = Loop()
        logs.may_work = lambda: self.loop.waiting
        self.groups = groups
        self.desk = Desk(self)
        self.shutting_down = False
        self._launcher = launcher_for(self._report)
        self.generations = Generations(self._launcher, owner.log)
        self._wire = Wire(self.loop, self._handle, self._abused)
        self._starter = Starter(self.loop, self._launcher, logs, groups, lambda: self.generations.promoted)
        self._reaper = Reaper(self.children, self._launcher, self._starter)
        self._changes: deque[Change] = deque()
        self._performing = False
        self._impatience = 0
        self._pulse_at = 0.0
        self._breaker_told = ""
        self._oom_kills = cgroups.machine_oom_kills()

    # --- what the owner asks ---------------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """Handlers only note the signal; the loop acts on it."""
        self.loop.install_signals(SIGNALS)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def add(self, child: Child) -> None:
        """Put a child on the books; it starts when it is wanted."""
        self.children[child.key] = child
        child.record = self.machine.add(child.key, child.record.policy, paced=child.kind is Kind.BOT)

    def want(self, child: Child) -> None:
        """Have it run."""
        self.dispatch(child, events.Want())

    def shut_down(self) -> None:
        """Stop bots, then `control`, then servers; `run` returns when all have ended."""
        if not self.shutting_down:
            self.shutting_down = True
            self.owner.log("info", "shutting down")
        self._shut_down_further()

    def call(self, function: Callable[[], None]) -> None:
        """Have the loop call a function; the only way in for other threads."""
        self.loop.call(function)

    def run(self) -> None:
        """The loop."""
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._launcher.start()
        while not (self.shutting_down and not self._alive()):
            late = self.loop.turn(self._next_look())
            if late > STALL:
                self.owner.log("warning", "the supervisor was held up", seconds=round(late, 3))
                self.perform(self.machine.stalled(late, time.monotonic()))
            self._take_signals()
            if self._reaper.due or self._reaper.behind:
                self._reaper.reap()
            self._take_deadlines()
            self._pulse()
            if self.shutting_down:
                self._shut_down_further()
        self._launcher.stop(2.0)
        self._reaper.end_all()

    # --- events and actions ----------------------------------------------------------------------------------------

    def dispatch(self, child: Child, event: events.Event) -> None:
        """Let supervision decide about an event of this child, and perform what it decides."""
        self.perform(self.machine.feed(child.key, event, time.monotonic()))

    def perform(self, changes: list[Change]) -> None:
        """Perform changes in their order; those that performing brings about come after them."""
        self._changes.extend(changes)
        if self._performing:
            return
        self._performing = True
        try:
            while self._changes:
                self._perform(self._changes.popleft())
        finally:
            self._performing = False

    def _perform(self, change: Change) -> None:
        child = self.children.get(change.key)
        if child is None:
            return
        child.record = self.machine.records.get(change.key, change.after)
        if change.after.state is not change.before.state:
            child.wall_since = time.time()
            if self.desk.transition(child, change):
                self._log_transition(child, change)
        for action in change.actions:
            self._act(child, action)
        if change.forgotten:
            self._starter.release(child)
            self.children.pop(child.key, None)
        failed_setup = child.kind is Kind.SETUP and change.after.state is State.QUARANTINED
        if failed_setup and not self.shutting_down:
            self.owner.boot_failed(change.after.reason)

    def _act(self, child: Child, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(child)
            case AskStop(timeout):
                if child.exec is not None:
                    child.signal(signal.Signals(child.exec.stop_signal))
                else:
                    self.send(child, messages.Stop(timeout=timeout))
            case Terminate():
                child.signal(signal.SIGTERM)
            case Kill():
                # A stopped process takes no other signal than this one.
                child.kill_group()
            case DumpStacks():
                self._dump_stacks(child)

    def send(self, child: Child, message: messages.Message) -> None:
        """Send a frame to a child; one that doesn't read is judged."""
        self._wire.send(child, message)

    def _abused(self, child: Child, how: str) -> None:
        self.dispatch(child, events.Misbehaved(self.logs.redact(how)))

    def _spawn(self, child: Child) -> None:
        try:
            self._starter.start(child)
        except OSError as error:
            # No descriptors or no memory: the machine's trouble, and no reason for the others to suffer.
            self.dispatch(child, events.SpawnFailed(f"cannot be started: {error.strerror or error}"))
            return
        if child.exec is None:
            self.send(child, self.owner.configure(child))

    def _dump_stacks(self, child: Child) -> None:
        if child.exec is not None or child.record.pid is None:
            return
        state = linux.process_state(child.record.pid)
        child.note = linux.STATE_NOTES.get(state, "")
        if child.stacks is not None:
            stacks.clear(child.stacks)
        child.signal(STACKS_SIGNAL)
        if state in ("T", "t"):
            # A stopped process writes nothing; it is let run for the moment between this and its end.
            child.woken = True
            child.signal(signal.SIGCONT)

    # --- what children say and how they end ------------------------------------------------------------------------

    def _watch_end(self, child: Child) -> None:
        if child.pidfd is not None:
            self.loop.watch(child.pidfd, READABLE, lambda: self._seen_to_end(child))

    def _seen_to_end(self, child: Child) -> None:
        # A death is a millisecond's work, and a hundred may come at once; who lives goes first.
        if child.pidfd is not None:
            self.loop.forget(child.pidfd)
            self.loop.defer(lambda: self._ended(child))

    def _ended(self, child: Child) -> None:
        ending = child.reap()
        if ending is None:
            self._watch_end(child)
            return
        self._wire.drain(child)
        if ending.signal == signal.SIGKILL and child.record.escalation is not Escalation.KILL:
            ending = replace(ending, oom=self._was_oom(child))
        written = stacks.read(child.stacks) if child.stacks is not None else ""
        self.desk.ending(child, ending, self.logs.redact(written))
        self._starter.release(child)
        self.dispatch(child, events.Exited(ending))
        self._reaper.ended(child)

    def _was_oom(self, child: Child) -> bool:
        """Whether a KILL that we didn't send was the kernel's. Without a control group of its own this is a guess."""
        if child.cgroup and self.groups is not None and "memory" in self.groups.controllers:
            return self.groups.oom_kills(child.cgroup) > 0
        kills, self._oom_kills = self._oom_kills, cgroups.machine_oom_kills()
        return self._oom_kills > kills

    def _handle(self, child: Child, message: messages.ControlUpward) -> None:
        match message:
            case messages.Ready():
                self.dispatch(child, events.BecameReady())
                if child.kind is Kind.CONTROL:
                    self.owner.serving()
                    self.desk.control_ready()
            case messages.Heartbeat() if child.woken:
                return
            case messages.Heartbeat():
                child.heartbeat_at = time.monotonic()
                child.gauges, child.counters = message.gauges, message.counters
                # Cut after it is redacted: half a secret is recognized by nobody.
                reason = self.logs.redact(message.reason[:REDACTED])[:500] if message.reason else ""
                memory, updates = message.gauges.get("pss_mb", 0.0), message.counters.get("updates", 0.0)
                self.dispatch(child, events.Beat(message.health, reason, memory, updates))
            case messages.Failing():
                child.last_words += 1
                if child.last_words > LAST_WORDS:
                    raise ProtocolError(f"more than {LAST_WORDS} last words")
                detail = self.logs.redact(message.detail[:REDACTED])[:2000]
                self.dispatch(child, events.LastWords(message.failure, detail))
            case messages.GaveUp(updates=n):
                if not child.pardoned:
                    child.pardoned = True
                    self.owner.log("warning", "updates given up, failures pardoned", bot=child.name, updates=n)
                    self.dispatch(child, events.Pardoned())
            case messages.Rotated():
                self.owner.log("info", "credentials rotated", bot=child.name, generation=message.generation)
            case messages.SetupDone():
                if child.kind is Kind.SETUP:
                    self.perform(self.machine.dismiss(child.key, "done", time.monotonic()))
                    self.owner.setup_done(bytes(message.result))
            case _:
                self.desk.handle(message)

    # --- launcher, signals, deadlines ------------------------------------------------------------------------------

    def _report(self, result: Result) -> None:
        self.call(lambda: self._take_result(result))

    def _take_result(self, result: Result) -> None:
        match result:
            case Launched():
                self._launched(result)
            case _ if self.shutting_down:
                pass  # they are ended
            case _:
                self.generations.take(result)
                at_boot = self.desk.never_served and result.generation == self.generations.promoted
                if isinstance(result, ForkserverDown) and at_boot:
                    self.owner.boot_failed(f"the forkserver can't start: {result.error}")

    def _launched(self, result: Launched) -> None:
        key, incarnation = self._starter.answered(result)
        child = self.children.get(key)
        current = child is not None and child.record.incarnation == incarnation
        if result.pid is None:
            if child is not None and current:
                self._starter.release(child)
                self.dispatch(child, events.SpawnFailed(result.error))
            return
        if child is None or not current:
            with contextlib.suppress(ProcessLookupError):
                os.kill(result.pid, signal.SIGKILL)
            return
        try:
            child.pidfd = os.pidfd_open(result.pid)
        except OSError as error:
            # No descriptors: nobody could see it end, so it must not begin.
            with contextlib.suppress(ProcessLookupError):
                os.kill(result.pid, signal.SIGKILL)
            self._starter.release(child)
            self.dispatch(child, events.SpawnFailed(f"cannot be watched: {error.strerror or error}"))
            return
        self._watch_end(child)
        self.dispatch(child, events.Spawned(result.pid))
        # Not before: what a child says counts once we know who it is.
        self._wire.listen(child)
        if child.exec is not None:
            self.dispatch(child, events.BecameReady())

    def _take_signals(self) -> None:
        for sign in self.loop.take_signals():
            match sign:
                case signal.SIGCHLD:
                    self._reaper.reap()
                case signal.SIGHUP:
                    self.owner.reloading()
                    self.desk.reload()
                case _:
                    self._impatience += self.shutting_down
                    self.shut_down()

    def _next_look(self) -> float:
        if self._reaper.behind:
            return time.monotonic()
        look = self.machine.next_look()
        return self._pulse_at if look is None else min(look, self._pulse_at)

    def _take_deadlines(self) -> None:
        now = time.monotonic()
        for key in self.machine.due(now):
            self.loop.defer(partial(self._take_deadline, key))
        self.perform(self.machine.elapse(now))

    def _take_deadline(self, key: int) -> None:
        child = self.children.get(key)
        if child is not None and child.record.state is not State.STOPPING:
            # What a child has said already counts before its silence does: we may be the late one. One look only:
            # a child that never stops talking gets no more time by it.
            self._wire.look(child)
        now = time.monotonic()
        if self.machine.is_due(key, now):
            self.perform(self.machine.feed(key, events.Due(), now))

    def _pulse(self) -> None:
        now = time.monotonic()
        if now < self._pulse_at:
            return
        self._pulse_at = now + PULSE_EVERY
        self._reaper.look_again()
        self._look_at_threads()
        self.desk.settle()
        if self.machine.breaker.reason != self._breaker_told:
            self._breaker_told = self.machine.breaker.reason
            held = self.machine.breaker.held
            if self._breaker_told:
                self.owner.log("error", "fleet breaker open", reason=self._breaker_told, held_back=held)
            else:
                self.owner.log("info", "fleet breaker closed")
        bots = (child for child in self.children.values() if child.kind is Kind.BOT)
        self.owner.pulse(Counter(child.record.state.value for child in bots))

    def _look_at_threads(self) -> None:
        """Nobody else would notice the end of one, and without it this is no supervisor any more."""
        if not self._launcher.alive:
            self.call(self._abandon)  # after what it has still answered
        dead = [name for name, part in (("launcher", self._launcher), ("log keeper", self.logs)) if not part.alive]
        if dead and not self.shutting_down:
            self.owner.broken(f"died by an error of its own: {', '.join(dead)}")

    def _abandon(self) -> None:
        for answer in self._starter.abandoned():
            self._launched(answer)

    # --- shutting down ---------------------------------------------------------------------------------------------

    def _alive(self) -> list[Child]:
        return [child for child in self.children.values() if child.record.state in HAS_PROCESS]

    def _shut_down_further(self) -> None:
        order = {Kind.BOT: 0, Kind.SETUP: 0, Kind.CONTROL: 1, Kind.SERVICE: 2}
        alive = self._alive()
        if not alive:
            return
        turn = min(order[child.kind] for child in alive)
        for child in list(self.children.values()):
            if order[child.kind] <= turn and child.record.wanted:
                self.dispatch(child, events.Unwant("the daemon shuts down"))
            if self._impatience and child.record.state in HAS_PROCESS and child.kind is not Kind.SERVICE:
                child.kill_group()

    def _log_transition(self, child: Child, change: Change) -> None:
        record = change.after
        level = "warning" if record.state in (State.FAILED, State.BACKOFF, State.QUARANTINED) else "info"
        self.owner.log(
            level,
            f"{child.kind.value} {record.state.value}",
            name=child.name,
            was=change.before.state.value,
            reason=record.reason,
            pid=record.pid,
            incarnation=record.incarnation,
        )
