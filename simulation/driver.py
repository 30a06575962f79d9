"""The supervisor's loop without its mechanisms: does, in the same order, what `runtime.supervisor` and its rooms do.

It decides nothing: what happens is fed to the real `FleetMachine`, and what that decides is done to simulated
processes. Everything fed and decided is shown to the oracle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from botctl.supervision import commands, events
from botctl.supervision.actions import Action, AskStop, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.fleet_machine import STALL, Change, FleetMachine
from botctl.supervision.model import HAS_PROCESS, Policy, Record, State
from simulation.orders import Command, Fleet, GaveUp, Heard, NewLimits, SetUp
from simulation.process import Kind, Process, Report

if TYPE_CHECKING:
    from simulation.oracle import Oracle
    from simulation.world import World

AT_ONCE = 8
"""Reports of one child that are handled before the others have their turn."""

HEARD = frozenset({State.RUNNING, State.DEGRADED, State.PAUSED})
"""States of a child whose process is known."""

LAST_WORDS = 3
"""More of them break the protocol."""


class Child:
    """One child on the books. `process` is there from the request for it until its end has been seen."""

    __slots__ = ("key", "kind", "process", "record")

    def __init__(self, key: int, kind: Kind, record: Record) -> None:
        self.key = key
        self.kind = kind
        self.record = record
        self.process: Process | None = None


class Driver:
    """`turn` is one turn of the loop. `readable`, `ended` and `launched` are what the selector would show."""

    def __init__(self, machine: FleetMachine, world: World, oracle: Oracle) -> None:
        self.machine = machine
        self.world = world
        self.oracle = oracle
        self.children: dict[int, Child] = {}
        self.ready: list[tuple[Child, Process, bool]] = []
        """Descriptors that are readable; True: the pidfd of a process that has ended."""
        self.deferred: deque[Callable[[], None]] = deque()
        """What is left for when everything that is ready has been seen to."""
        self.launched: list[tuple[Process, int | None, str]] = []
        self.strays: list[tuple[Child, events.Event]] = []
        """Reports of processes that are gone, to children without one, and second answers of the launcher. The real
        loop drops them, with their pipes and requests."""
        self.now = 0.0
        self.fed = 0
        self.shutting_down = False
        self.impatient = False
        self._changes: deque[Change] = deque()
        self._performing = False

    # --- what the owner asks ---------------------------------------------------------------------------------------

    def add(self, key: int, kind: Kind, policy: Policy) -> Child:
        """Put a child on the books."""
        record = self.machine.add(key, policy, paced=kind is Kind.BOT)
        self.oracle.added(key, policy, record, paced=kind is Kind.BOT)
        child = self.children[key] = Child(key, kind, record)
        return child

    def want(self, child: Child) -> None:
        """Have it run."""
        self.oracle.wished(child.key, "start")
        self.dispatch(child, events.Want())

    def desire(self, fleet: Fleet) -> None:
        """The wanted fleet comes from a `control` that the schedule begins with."""
        self._desire(fleet)

    def dispatch(self, child: Child, event: events.Event) -> None:
        """Let supervision decide about an event of this child, and perform what it decides."""
        self.fed += 1
        key = child.key
        changes = self.machine.feed(key, event, self.now)
        self.oracle.fed(key, event, self.now, changes)
        if not changes:
            return
        change = changes[0]
        if len(changes) == 1 and not change.actions and not change.forgotten and not self._performing:
            child.record = change.after  # nothing to perform
        else:
            self.perform(changes)

    def perform(self, changes: list[Change]) -> None:
        """Perform changes in their order; those that performing brings about come after them."""
        queue = self._changes
        queue.extend(changes)
        if self._performing:
            return
        self._performing = True
        try:
            while queue:
                change = queue.popleft()
                child = self.children.get(change.key)
                if child is None:
                    continue
                child.record = self.machine.records.get(change.key, change.after)
                for action in change.actions:
                    self._act(child, action)
                if change.forgotten:
                    self._release(child)
                    self.children.pop(child.key, None)
        finally:
            self._performing = False

    def _act(self, child: Child, action: Action) -> None:
        process = child.process
        if isinstance(action, Spawn):
            self._spawn(child)
        elif process is None:
            return
        elif isinstance(action, AskStop):
            if child.kind is Kind.SERVICE:
                if process.known:  # a signal, so it needs a pid
                    self.world.asked_to_stop(process)
            elif self.world.takes_frames(process):
                self.world.asked_to_stop(process)
            else:
                self.dispatch(child, events.Misbehaved("the child does not read its commands"))
        elif isinstance(action, Terminate):
            if process.known:
                self.world.terminated(process)
        elif isinstance(action, Kill):
            if process.known:
                self.world.killed(process)
        elif isinstance(action, DumpStacks) and process.known:
            self.world.dumps(process)

    def send(self, child: Child) -> None:
        """Send a frame that asks for nothing."""
        if child.process is not None and not self.world.takes_frames(child.process):
            self.dispatch(child, events.Misbehaved("the child does not read its commands"))

    def _spawn(self, child: Child) -> None:
        self._release(child)
        if self.world.out_of_descriptors():
            self.dispatch(child, events.SpawnFailed("cannot be started: Too many open files"))
            return
        child.process = Process(child.key, child.kind, child.record.incarnation)
        self.world.launch(child.process)

    @staticmethod
    def _release(child: Child) -> None:
        child.process = None

    # --- what children say and how they end ------------------------------------------------------------------------

    def _ended(self, child: Child, process: Process) -> None:
        if child.process is not process or process.exit is None:
            return
        self._drain(child, process)
        self._release(child)
        self.dispatch(child, events.Exited(process.exit))

    def _read(self, child: Child) -> None:
        """Take a few of the reports that have come; the rest when everybody else has been heard."""
        process = child.process
        if process is None or process.hung_up or not process.listened:
            return
        pipe = process.pipe
        if len(pipe) > AT_ONCE:
            taken, process.pipe = pipe[:AT_ONCE], pipe[AT_ONCE:]
            self.deferred.append(partial(self._go_on, child, process))
        else:
            taken, process.pipe = pipe, []
            process.waiting = False
        if process.blocked:
            self.world.goes_on(process)
        for report in taken:
            if child.process is not process or not self._handle(child, process, report):
                return

    def _go_on(self, child: Child, process: Process) -> None:
        if child.process is process:
            self._read(child)

    def _drain(self, child: Child, process: Process) -> None:
        """All that a child has said which has ended; of its heartbeats only the last."""
        if process.hung_up or not process.listened:
            return
        pipe, process.pipe = process.pipe, []
        last = next((report for report in reversed(pipe) if type(report) is events.Beat), None)
        seen = [report for report in pipe if type(report) is not events.Beat or report is last]
        for report in seen:
            if not self._handle(child, process, report):
                return

    def _handle(self, child: Child, process: Process, report: Report) -> bool:
        """False when it broke the protocol and is not listened to any more."""
        if type(report) is events.LastWords:
            process.last_words += 1
            if process.last_words > LAST_WORDS:
                report = events.Misbehaved(f"more than {LAST_WORDS} last words")
        if type(report) is events.Misbehaved:
            process.hung_up = True
            process.pipe = []
            self.dispatch(child, report)
            return False
        if type(report) is events.Beat and process.woken:
            return True
        if isinstance(report, events.Beat | events.BecameReady | events.LastWords):
            self.dispatch(child, report)
        else:
            self._take_order(child, report)
        return True

    def _take_order(self, child: Child, report: Report) -> None:
        if isinstance(report, Command):
            self._command(report)
        elif isinstance(report, Fleet):
            self._desire(report)
        elif isinstance(report, Heard):
            heard = self.children.get(report.key)
            if heard is not None:
                self.dispatch(heard, events.Hearing(report.deaf, report.reason))
        elif isinstance(report, GaveUp):
            self.dispatch(child, events.Pardoned())
        elif isinstance(report, NewLimits):
            limited = self.children.get(report.key)
            record = limited.record if limited is not None else None
            if limited is not None and record is not None and self._can_be_limited(record):
                self.oracle.restart_for_limits(limited.key)
                self.dispatch(limited, events.Restart("its limits can't be changed while it runs"))
        elif isinstance(report, SetUp):
            changes = self.machine.dismiss(child.key, "done", self.now)
            self.oracle.dismissed(child.key, "done", self.now, changes)
            self.perform(changes)

    @staticmethod
    def _can_be_limited(record: Record) -> bool:
        return record.wanted and record.pid is not None and record.state in HAS_PROCESS

    def _command(self, command: Command) -> None:
        bots = [child for child in self.children.values() if child.kind is Kind.BOT]
        if command.key is not None:
            bots = [child for child in bots if child.key == command.key]
            if not bots:
                return
            refusal = commands.refusal(command.verb, f"bot{command.key}", bots[0].record)
            self.oracle.commanded(command.verb, bots[0].key, refused=refusal is not None, text=refusal)
            if refusal is not None:
                return
        else:
            keys = [child.key for child in bots]
            enabled = self.machine.enabled
            bots = [child for child in bots if commands.concerns_all(command.verb, child.record, enabled(child.key))]
            self.oracle.commanded_all(command.verb, [child.key for child in bots], keys)
        for child in bots:
            event = commands.meaning(command.verb, command.reason)
            self.oracle.meant(command, event)
            self.oracle.wished(child.key, command.verb)
            self.dispatch(child, event)

    def _desire(self, fleet: Fleet) -> None:
        if self.shutting_down:
            return
        for key, (_, policy) in fleet.bots.items():
            child = self.children.get(key)
            if child is None:
                child = self.add(key, Kind.BOT, policy)
            child.record = self.machine.set_policy(key, policy)
            self.oracle.policy_set(key, policy, child.record)
            if key in fleet.live:
                self.send(child)
        wanted = {key: one for key, (one, _) in fleet.bots.items()}
        changes = self.machine.desire(wanted, self.now)
        self.fed += 1
        self.oracle.desired(wanted, self.now, changes)
        self.perform(changes)

    # --- the loop --------------------------------------------------------------------------------------------------

    def turn(self, now: float, late: float) -> None:
        """What one turn of the loop does when it has waited until `now`, `late` seconds longer than it should have."""
        self.now = now
        if self.ready:
            ready, self.ready = self.ready, []
            for child, process, ended in ready:
                if ended:
                    self.deferred.append(partial(self._ended, child, process))
                elif child.process is process:
                    self._read(child)
        if self.strays:
            strays, self.strays = self.strays, []
            for child, event in strays:
                found = self.children.get(child.key)
                state, answer = child.record.state, type(event) in (events.Spawned, events.SpawnFailed)
                if found is None or (found is child and (state not in HAS_PROCESS or (answer and state in HEARD))):
                    self.dispatch(child, event)
        if self.launched:
            launched, self.launched = self.launched, []
            for result in launched:
                self._launched(*result)
        if self.deferred:
            # A turn does as much as fits.
            for _ in range(self.world.fits(len(self.deferred))):
                self.deferred.popleft()()
        if late > STALL:
            self.fed += 1
            changes = self.machine.stalled(late, now)
            self.oracle.stalled(late, now, changes)
            self.perform(changes)
        self._take_deadlines(now)
        if self.shutting_down:
            self._shut_down_further()

    def _launched(self, process: Process, pid: int | None, error: str) -> None:
        child = self.children.get(process.key)
        current = child is not None and child.record.incarnation == process.incarnation
        if child is None or not current:
            self.oracle.broken("one process", f"a late answer for incarnation {process.incarnation}", process.key)
        if pid is None:
            self._release(child)
            self.dispatch(child, events.SpawnFailed(error))
            return
        process.known = True
        self.dispatch(child, events.Spawned(pid))
        process.listened = True
        # The descriptors are watched from now on, and may be readable already.
        if process.exit is not None:
            self.ready.append((child, process, True))
        if child.kind is Kind.SERVICE:
            self.dispatch(child, events.BecameReady())
        elif process.pipe:
            process.waiting = True
            self.ready.append((child, process, False))

    def _take_deadlines(self, now: float) -> None:
        machine = self.machine
        for key in machine.due(now):
            self.oracle.pending.add(key)
            self.deferred.append(partial(self._take_deadline, key))
        changes = machine.elapse(now)
        self.oracle.elapsed(now, changes)
        if changes:
            self.perform(changes)

    def _take_deadline(self, key: int) -> None:
        self.oracle.pending.discard(key)
        child = self.children.get(key)
        if child is None:
            return
        if child.record.state is not State.STOPPING:
            self._read(child)
        if self.machine.is_due(key, self.now):
            self.dispatch(child, events.Due())

    # --- shutting down ---------------------------------------------------------------------------------------------

    def alive(self) -> list[Child]:
        """Those that have a process, or have asked for one."""
        return [child for child in self.children.values() if child.record.state in HAS_PROCESS]

    def shut_down(self) -> None:
        """SIGTERM; the second one is impatience."""
        self.impatient = self.shutting_down
        self.shutting_down = True

    def _shut_down_further(self) -> None:
        order = {Kind.BOT: 0, Kind.SETUP: 0, Kind.CONTROL: 1, Kind.SERVICE: 2}
        alive = self.alive()
        if not alive:
            return
        turn = min(order[child.kind] for child in alive)
        for child in list(self.children.values()):
            if order[child.kind] <= turn and child.record.wanted:
                before = [one.key for one in self.children.values() if order[one.kind] < order[child.kind]]
                self.oracle.ends(child.key, before)
                self.dispatch(child, events.Unwant("the daemon shuts down"))
            if self.impatient and child.record.state in HAS_PROCESS and child.kind is not Kind.SERVICE:
                process = child.process
                if process is not None and process.known:
                    self.world.killed(process)
