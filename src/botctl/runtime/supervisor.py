"""`ProcessSupervisor`: one thread, one selector; feeds what happens to `supervision` and performs what it decides.

It never waits for a child, a disk, a database or the network: pipes are non-blocking, starting is the launcher's, log
files are the keeper's.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import queue
import select
import selectors
import signal
import time
from collections.abc import Callable
from typing import Protocol

from botctl.errors import ProtocolError
from botctl.runtime import messages, strangers
from botctl.runtime.allowance import Allowance
from botctl.runtime.children import FRAMES_PER_SECOND, Child, Kind
from botctl.runtime.desk import Desk
from botctl.runtime.launcher import ForkserverDown, ForkserverUp, Launched, Launcher, Result
from botctl.runtime.logs import LogKeeper
from botctl.runtime.pipes import ChildPipes
from botctl.runtime.spawn import STACKS_SIGNAL, SpawnRequest
from botctl.supervision import events
from botctl.supervision.actions import Action, AskStop, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.machine import step
from botctl.supervision.model import HAS_PROCESS, State

LAST_ORPHANS_TIMEOUT = 2.0
DRAIN_READS = 16
"""Reads of a dead child's reports, so that its last words are heard."""


class Owner(Protocol):
    """The composition root's side: what the supervisor tells it."""

    def log(self, level: str, event: str, **fields: object) -> None:
        """A line for the daemon's log."""

    def setup_done(self, result: bytes) -> None:
        """Set-up has ended well; `result` is the JSON of `handover.SetupResult`."""

    def boot_failed(self, message: str) -> None:
        """The daemon can't come up; shut down with this message."""

    def serving(self) -> None:
        """`control` serves its API for the first time."""

    def configure(self, child: Child) -> messages.Configure:
        """The first frame for a new incarnation."""

    def keep_secret(self, secrets: list[str]) -> None:
        """These must never stand in a log."""


class ProcessSupervisor:
    """Runs until it has been told to shut down and every child has ended."""

    def __init__(self, owner: Owner, launcher_for: Callable[[Callable[[Result], None]], Launcher], logs: LogKeeper):
        self.children: dict[int, Child] = {}
        self.owner = owner
        self.logs = logs
        self.desk = Desk(self)
        self.shutting_down = False
        self.forkserver_pid: int | None = None
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._launcher = launcher_for(self._report)
        self._launching: dict[int, tuple[int, int]] = {}
        self._next_token = 0
        self._deadlines: list[tuple[float, int]] = []
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        for descriptor in (self._wake_out, self._wake_in):
            os.set_blocking(descriptor, False)
        self._selector.register(self._wake_out, selectors.EVENT_READ, (self._woken, 0))
        self._signals: list[signal.Signals] = []
        self._impatience = 0
        self._strangers_due = False

    # --- what the owner asks ---------------------------------------------------------------------------------------

    def install_signals(self) -> None:
        """Handlers only note the signal; the loop acts on it."""
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
            signal.signal(sign, lambda number, _: self._signals.append(signal.Signals(number)))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def add(self, child: Child) -> None:
        """Put a child on the books; it starts when it is wanted."""
        self.children[child.key] = child

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
        self._calls.put(function)
        self._wake()

    def run(self) -> None:
        """The loop."""
        self._launcher.start()
        while not (self.shutting_down and not self._alive()):
            timeout = self._time_to_deadline()
            for key, mask in self._selector.select(timeout):
                handle, number = key.data
                handle(number, mask)
            self._take_signals()
            if self._strangers_due:
                self.reap_strangers()
            self._take_calls()
            self._take_deadlines()
            if self.shutting_down:
                self._shut_down_further()
        self._launcher.stop(2.0)
        self._end_the_rest()

    # --- events and actions ----------------------------------------------------------------------------------------

    def dispatch(self, child: Child, event: events.Event) -> None:
        """Let supervision decide, perform its actions, tell `control` of a transition."""
        now = time.monotonic()
        before = child.record
        child.record, actions = step(before, event, now)
        self._schedule(child)
        if child.record.state is not before.state:
            child.wall_since = time.time()
            if self.desk.transition(child, before, event):
                self._log_transition(child, before.state)
        for action in actions:
            self._perform(child, action)
        if child.forget and child.record.state not in HAS_PROCESS:
            self.children.pop(child.key, None)
        if child.kind is Kind.SETUP and child.record.state is State.QUARANTINED and not self.shutting_down:
            self.owner.boot_failed(child.record.reason)

    def _perform(self, child: Child, action: Action) -> None:
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
                if child.exec is None:
                    child.signal(STACKS_SIGNAL)

    def send(self, child: Child, message: messages.Message) -> None:
        """Send a frame to a child; one that doesn't read is judged."""
        if child.pipes is None:
            return
        try:
            child.pipes.send(messages.encode(message))
        except ProtocolError as error:
            self.dispatch(child, events.Misbehaved(str(error)))
            return
        self._watch_writer(child)

    def _spawn(self, child: Child) -> None:
        self._release(child)
        try:
            self._launch(child)
        except OSError as error:
            # No descriptors or no memory: the machine's trouble, and no reason for the others to suffer.
            self._release(child)
            self.dispatch(child, events.SpawnFailed(f"cannot be started: {error.strerror or error}"))

    def _launch(self, child: Child) -> None:
        child.log_token, log = self.logs.open(child.log_name)
        self._next_token += 1
        token = self._next_token
        child.wall_started = time.time()
        child.gauges, child.counters, child.heartbeat_at = {}, {}, None
        child.allowance = Allowance(FRAMES_PER_SECOND)
        if child.exec is not None:
            self._launching[token] = (child.key, child.record.incarnation)
            self._launcher.execute(token, child.exec, log)
            return
        limit = messages.MAX_FRAME if child.kind is Kind.BOT else messages.MAX_CONTROL_FRAME
        bound = {} if child.kind is Kind.BOT else {"write_bound": messages.MAX_CONTROL_FRAME}
        try:
            pipes = child.pipes = ChildPipes(max_body=limit, **bound)
        except OSError:
            os.close(log)
            raise
        request = SpawnRequest(
            id=token,
            name=f"bot {child.name}" if child.kind is Kind.BOT else child.name,
            mark=f"{child.key}/{child.record.incarnation}",
            entry=child.entry,
            open_files=child.open_files,
            memory=child.memory,
        )
        descriptors = (pipes.child_commands, pipes.child_reports, log)
        pipes.child_commands = pipes.child_reports = -1
        self._launching[token] = (child.key, child.record.incarnation)
        self._launcher.fork(token, request, descriptors)
        self.send(child, self.owner.configure(child))

    def _release(self, child: Child) -> None:
        """Let go of everything that belonged to the last incarnation."""
        if child.pipes is not None:
            for descriptor in (child.pipes.reports, child.pipes.writer):
                with contextlib.suppress(KeyError):
                    self._selector.unregister(descriptor)
            child.pipes.close()
            child.pipes = None
        if child.pidfd is not None:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.pidfd)
            os.close(child.pidfd)
            child.pidfd = None

    # --- what the selector reports ---------------------------------------------------------------------------------

    def _woken(self, _: int, __: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_out, 4096)

    def _readable(self, key: int, _: int) -> None:
        child = self.children.get(key)
        if child is None or child.pipes is None:
            return
        self._read(child)

    def _read(self, child: Child) -> bool:
        """Handle one read's worth of reports; False when there is nothing more to come."""
        pipes = child.pipes
        if pipes is None:
            return False
        try:
            bodies, ended = pipes.read()
            if child.kind is Kind.BOT and not child.allowance.take(len(bodies), time.monotonic()):
                raise ProtocolError(f"more than {FRAMES_PER_SECOND} frames a second")
            for body in bodies:
                decode = messages.decode_control if child.kind is Kind.CONTROL else messages.decode_upward
                self._handle(child, decode(body))
        except ProtocolError as error:
            self._stop_reading(child)
            self.dispatch(child, events.Misbehaved(str(error)))
            return False
        if ended:
            self._stop_reading(child)
        return bool(bodies) and not ended

    def _stop_reading(self, child: Child) -> None:
        if child.pipes is not None and not child.pipes.closed:
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.pipes.reports)

    def _writable(self, key: int, _: int) -> None:
        child = self.children.get(key)
        if child is not None and child.pipes is not None:
            child.pipes.flush()
            self._watch_writer(child)

    def _watch_writer(self, child: Child) -> None:
        pipes = child.pipes
        if pipes is None or pipes.closed:
            return
        watched = pipes.writer in self._selector.get_map()
        if pipes.wants_to_write and not watched:
            self._selector.register(pipes.writer, selectors.EVENT_WRITE, (self._writable, child.key))
        elif watched and not pipes.wants_to_write:
            self._selector.unregister(pipes.writer)

    def _ended(self, key: int, _: int) -> None:
        child = self.children.get(key)
        if child is None:
            return
        ending = child.reap()
        if ending is None:
            return
        for _ in range(DRAIN_READS):
            if not self._read(child):
                break
        self.desk.ending(child, str(ending))
        self._release(child)
        self.dispatch(child, events.Exited(ending))
        self._strangers_due = True

    # --- what children say -----------------------------------------------------------------------------------------

    def _handle(self, child: Child, message: messages.ControlUpward) -> None:
        match message:
            case messages.Ready():
                self.dispatch(child, events.BecameReady())
                if child.kind is Kind.CONTROL:
                    self.owner.serving()
                    self.desk.control_ready()
            case messages.Heartbeat():
                child.heartbeat_at = time.monotonic()
                child.gauges, child.counters = message.gauges, message.counters
                self.dispatch(child, events.Beat(message.health, self.logs.redact(message.reason[:500])))
            case messages.Failing():
                self.dispatch(child, events.LastWords(message.failure, self.logs.redact(message.detail[:2000])))
            case messages.Rotated():
                self.owner.log("info", "credentials rotated", bot=child.name, generation=message.generation)
            case messages.SetupDone():
                if child.kind is Kind.SETUP:
                    self.dispatch(child, events.Unwant("done"))
                    child.forget = True
                    self.owner.setup_done(bytes(message.result))
            case _:
                self.desk.handle(message)

    # --- launcher, signals, deadlines ------------------------------------------------------------------------------

    def _report(self, result: Result) -> None:
        self.call(lambda: self._take_result(result))

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_in, b"!")

    def _take_calls(self) -> None:
        while True:
            try:
                function = self._calls.get_nowait()
            except queue.Empty:
                return
            function()

    def _take_result(self, result: Result) -> None:
        match result:
            case Launched():
                self._launched(result)
            case ForkserverUp(pid, generation):
                self.forkserver_pid = pid
                self.owner.log("info", "forkserver ready", pid=pid, generation=generation)
            case ForkserverDown(error):
                self.owner.log("error", "forkserver failed", error=error)
                if self.desk.never_served and not self.shutting_down:
                    self.owner.boot_failed(f"the forkserver can't start: {error}")

    def _launched(self, result: Launched) -> None:
        key, incarnation = self._launching.pop(result.token)
        child = self.children.get(key)
        current = child is not None and child.record.incarnation == incarnation
        if result.pid is None:
            if child is not None and current:
                self._release(child)
                self.dispatch(child, events.SpawnFailed(result.error))
            return
        if child is None or not current:
            with contextlib.suppress(ProcessLookupError):
                os.kill(result.pid, signal.SIGKILL)
            return
        child.pidfd = os.pidfd_open(result.pid)
        self._selector.register(child.pidfd, selectors.EVENT_READ, (self._ended, child.key))
        self.dispatch(child, events.Spawned(result.pid))
        if child.pipes is not None:
            # Not before: what a child says counts once we know who it is.
            self._selector.register(child.pipes.reports, selectors.EVENT_READ, (self._readable, child.key))
        if child.exec is not None:
            self.dispatch(child, events.BecameReady())

    def _take_signals(self) -> None:
        taken, self._signals = self._signals, []
        for sign in taken:
            match sign:
                case signal.SIGCHLD:
                    self.reap_strangers()
                case signal.SIGHUP:
                    self.desk.reload()
                case _:
                    self._impatience += self.shutting_down
                    self.shut_down()

    def reap_strangers(self) -> None:
        """End adopted orphans of bots that have ended, and reap them and the forkserver."""
        if self._launching:
            self._strangers_due = True
            return  # a child whose pid we don't know yet must not be mistaken for a stranger
        self._strangers_due = False
        known = {child.record.pid for child in self.children.values() if child.record.pid is not None}
        strangers.end_orphans(known | {self._launcher.forkserver_pid}, self._is_over)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in known:
                return
            with contextlib.suppress(ChildProcessError):
                os.waitpid(found.si_pid, os.WNOHANG)
            if found.si_pid == self.forkserver_pid and not self.shutting_down:
                self.owner.log("error", "forkserver ended", pid=found.si_pid)
                self.forkserver_pid = None
                self._launcher.forkserver_gone(found.si_pid)

    def _is_over(self, key: int, incarnation: int) -> bool:
        child = self.children.get(key)
        return child is None or child.record.state not in HAS_PROCESS or child.record.incarnation != incarnation

    def _end_the_rest(self) -> None:
        strangers.end_marked(self._launcher.run)
        deadline = time.monotonic() + LAST_ORPHANS_TIMEOUT
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                strangers.end_all_but(set())  # each may leave orphans of its own
                if os.waitpid(-1, os.WNOHANG) == (0, 0):
                    select.select([], [], [], 0.005)

    def _time_to_deadline(self) -> float | None:
        if self._signals or not self._calls.empty():
            return 0.0
        if not self._deadlines:
            return 60.0
        return max(0.0, self._deadlines[0][0] - time.monotonic())

    def _schedule(self, child: Child) -> None:
        """Look at a child at its deadline; one that moves away keeps its entry, which is put right when it comes."""
        deadline = child.record.deadline
        if deadline is not None and (child.scheduled is None or deadline < child.scheduled):
            child.scheduled = deadline
            heapq.heappush(self._deadlines, (deadline, child.key))

    def _take_deadlines(self) -> None:
        now = time.monotonic()
        due: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            due.append(heapq.heappop(self._deadlines)[1])
        for key in due:
            child = self.children.get(key)
            if child is None:
                continue
            child.scheduled = None
            if _is_due(child, now) and child.record.state not in (State.STOPPING, State.FAILED):
                # What a child has said already counts before its silence does: we may be the late one. One look only:
                # a child that never stops talking gets no more time by it.
                self._read(child)
            if _is_due(child, now):
                self.dispatch(child, events.Due())
            self._schedule(child)

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

    def _log_transition(self, child: Child, before: State) -> None:
        record = child.record
        level = "warning" if record.state in (State.FAILED, State.BACKOFF, State.QUARANTINED) else "info"
        self.owner.log(
            level,
            f"{child.kind.value} {record.state.value}",
            name=child.name,
            was=before.value,
            reason=record.reason,
            pid=record.pid,
            incarnation=record.incarnation,
        )


def _is_due(child: Child, now: float) -> bool:
    return child.record.deadline is not None and child.record.deadline <= now
