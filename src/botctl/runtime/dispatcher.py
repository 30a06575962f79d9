"""Feeds what happens to the fleet machine and performs what that decides: starts, frames, signals, logs, records.

It decides nothing, and has nothing of its own but the changes that are still to be performed. It never waits.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable

from botctl.runtime import linux, messages, stacks
from botctl.runtime.children import Child, Children, Kind
from botctl.runtime.logs import LogKeeper
from botctl.runtime.owner import Owner
from botctl.runtime.record_keeper import RecordKeeper
from botctl.runtime.spawn import STACKS_SIGNAL
from botctl.runtime.starter import Starter
from botctl.runtime.wire import Wire
from botctl.supervision import events
from botctl.supervision.actions import Action, AskStop, DumpStacks, Kill, Spawn, Terminate
from botctl.supervision.fleet_machine import Change, FleetMachine
from botctl.supervision.model import State


class Dispatcher:
    """`setup_failed` is told why, when set-up has ended badly."""

    def __init__(
        self,
        *,
        children: Children,
        machine: FleetMachine,
        wire: Wire,
        starter: Starter,
        records: RecordKeeper,
        logs: LogKeeper,
        owner: Owner,
        setup_failed: Callable[[str], None],
    ) -> None:
        self._children = children
        self._machine = machine
        self._wire = wire
        self._starter = starter
        self._records = records
        self._logs = logs
        self._owner = owner
        self._setup_failed = setup_failed
        self._changes: deque[Change] = deque()
        self._performing = False

    # --- events ----------------------------------------------------------------------------------------------------

    def add(self, child: Child) -> None:
        """Put a child on the books; it starts when it is wanted."""
        self._children[child.key] = child
        child.record = self._machine.add(child.key, child.record.policy, paced=child.kind is Kind.BOT)

    def dispatch(self, child: Child, event: events.Event) -> None:
        """Let supervision decide about an event of this child, and perform what it decides."""
        self.perform(self._machine.feed(child.key, event, time.monotonic()))

    def dismiss(self, child: Child, reason: str) -> None:
        """It is needed no more: have it end and be forgotten."""
        self.perform(self._machine.dismiss(child.key, reason, time.monotonic()))

    def abused(self, child: Child, how: str) -> None:
        """It broke the protocol of its pipes, or doesn't read."""
        self.dispatch(child, events.Misbehaved(self._logs.redact(child.log_name, how)))

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

    # --- actions ---------------------------------------------------------------------------------------------------

    def _perform(self, change: Change) -> None:
        child = self._children.get(change.key)
        if child is None:
            return
        child.record = self._machine.records.get(change.key, change.after)
        if change.after.state is not change.before.state:
            child.wall_since = time.time()
            if self._records.transition(child, change):
                self._log_transition(child, change)
        for action in change.actions:
            self._act(child, action)
        if change.forgotten:
            self._starter.release(child)
            self._children.pop(child.key, None)
        if child.kind is Kind.SETUP and change.after.state is State.QUARANTINED:
            self._setup_failed(change.after.reason)

    def _act(self, child: Child, action: Action) -> None:
        match action:
            case Spawn():
                self._spawn(child)
            case AskStop(timeout):
                if child.exec is not None:
                    child.signal(signal.Signals(child.exec.stop_signal))
                else:
                    self._wire.send(child, messages.Stop(timeout=timeout))
            case Terminate():
                child.signal(signal.SIGTERM)
            case Kill():
                # A stopped process takes no other signal than this one.
                child.kill_group()
            case DumpStacks():
                self._dump_stacks(child)

    def _spawn(self, child: Child) -> None:
        try:
            self._starter.start(child)
        except OSError as error:
            # No descriptors or no memory: the machine's trouble, and no reason for the others to suffer.
            self.dispatch(child, events.SpawnFailed(f"cannot be started: {error.strerror or error}"))
            return
        if child.exec is None:
            self._wire.send(child, self._owner.configure(child))

    def _dump_stacks(self, child: Child) -> None:
        if child.exec is not None or child.record.pid is None:
            return
        state = linux.process_state(child.record.pid)
        child.note = linux.STATE_NOTES.get(state, "")
        if child.stacks is not None:
            stacks.clear(child.stacks)
        child.dumped = True
        child.signal(STACKS_SIGNAL)
        if state in ("T", "t"):
            # A stopped process writes nothing; it is let run for the moment between this and its end.
            child.woken = True
            child.signal(signal.SIGCONT)

    def forget_stacks(self, child: Child) -> None:
        """It goes on as if nobody had asked for its stacks."""
        child.dumped, child.note = False, ""
        if child.stacks is not None:
            stacks.clear(child.stacks)

    def _log_transition(self, child: Child, change: Change) -> None:
        record = change.after
        level = "warning" if record.state in (State.FAILED, State.BACKOFF, State.QUARANTINED) else "info"
        self._owner.log(
            level,
            f"{child.kind.value} {record.state.value}",
            name=child.name,
            was=change.before.state.value,
            reason=record.reason,
            pid=record.pid,
            incarnation=record.incarnation,
        )
