"""The supervisor's desk for `control`: the wanted fleet and commands come in, lifecycle records and snapshots go out.

Lifecycle records are kept until `control` has stored them, so that a `control` that died misses none.
"""

from __future__ import annotations

import os
import resource
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from botctl.runtime import linux, messages
from botctl.runtime.children import Child, Kind, Limits
from botctl.runtime.policies import bot_policy
from botctl.runtime.record_outbox import RecordOutbox
from botctl.runtime.starter import hard_by_rlimit
from botctl.supervision import commands, events, explain
from botctl.supervision.failures import TREATMENT
from botctl.supervision.fleet_machine import Change
from botctl.supervision.model import HAS_PROCESS, AfterStop, Exit, Failure, Record, State
from botctl.supervision.reconcile import Wanted

if TYPE_CHECKING:
    from botctl.runtime.supervisor import ProcessSupervisor

HISTORY_LOG = "deaths"
"""Name of the log that has every end of an incarnation, whether the database is there or not."""

BOT_ENTRY = "botctl.bot.process:main"

_FLAPPING = (
    frozenset({State.RUNNING, State.DEGRADED, State.PAUSED}),
    frozenset({State.STARTING, State.PAUSED}),
)
"""States between which a bot may go to and fro as it likes."""

FLAPS_APART = 1.0
"""Seconds from one record to the next of a bot that goes to and fro."""

_WITH_STACKS = frozenset({Failure.CRASH, Failure.HANG, Failure.NOT_READY})
"""Failures whose record has stacks: they were asked for, or are the traceback of a fatal signal. What others have
written into the file is nobody's answer."""


@dataclass(frozen=True)
class _Ending:
    """How a process has ended, kept until the transition that follows."""

    exit: Exit
    stacks: str


class Desk:
    """Belongs to one supervisor; has no thread and no state but what it must remember for the next `control`."""

    def __init__(self, supervisor: ProcessSupervisor) -> None:
        self._supervisor = supervisor
        self._outbox = RecordOutbox()
        self._seq = 0
        self._owed: set[int] = set()
        self._endings: dict[int, _Ending] = {}
        self._started = time.time()
        self.generation = 0
        self.applied = msgspec.Raw(b"null")
        self.never_served = True
        self._reload_waits = False

    # --- from control ----------------------------------------------------------------------------------------------

    def handle(self, message: messages.ControlUpward) -> None:
        """A message only `control` may send."""
        match message:
            case messages.Desired():
                self._desire(message)
            case messages.Command():
                ok, text = self._command(message)
                self._tell(messages.CommandResult(id=message.id, ok=ok, message=text))
                if ok and message.verb == "shutdown":
                    self._supervisor.shut_down()
            case messages.GetSnapshot():
                self._tell(self.snapshot(message.id))
            case messages.Recorded():
                self._outbox.recorded(message.seq)
                self._tell_records()
            case messages.Rotate():
                self._rotate(message)
            case messages.Assign(sources=sources):
                for bot_id, source in sources.items():
                    if (child := self._bot(bot_id)) is not None:
                        child.source = source
            case messages.Generation(id=number, verb=verb, number=wanted):
                ok, text, generation = self._supervisor.generations.command(verb, wanted, self._bots())
                self._tell(messages.CommandResult(id=number, ok=ok, message=text, generation=generation))
            case messages.Hearing(bot_id=bot_id, deaf=deaf, reason=reason):
                if (child := self._bot(bot_id)) is not None:
                    self._supervisor.dispatch(child, events.Hearing(deaf, reason[:500]))
            case _:
                self._supervisor.owner.log("error", "unexpected message", type=type(message).__name__)

    def control_ready(self) -> None:
        """A new `control` listens: everything the last one had not stored comes again."""
        self.never_served = False
        self._outbox.again()
        self._tell_records()
        if self._reload_waits:
            self.reload()

    def reload(self) -> None:
        """SIGHUP; while there is no `control`, the next one is told."""
        self._reload_waits = not self._tell(messages.Reload())

    # --- from the supervisor ---------------------------------------------------------------------------------------

    def ending(self, child: Child, exit: Exit, stacks: str) -> None:
        """A process has ended; the transition that follows carries how, and what its stacks were."""
        self._endings[child.key] = _Ending(exit, stacks)

    def transition(self, child: Child, change: Change) -> bool:
        """Record a transition of a bot. False when it is not worth a word: a bot that flaps is heard once a second."""
        ending = self._endings.pop(child.key, None)
        if child.kind is not Kind.BOT:
            return True
        before, record = change.before, change.after
        flaps = any({before.state, record.state} <= states for states in _FLAPPING)
        if flaps and 0 <= time.time() - child.recorded_at < FLAPS_APART:
            self._owed.add(child.key)
            return False
        ended = isinstance(change.event, events.Exited | events.SpawnFailed)
        lifecycle = self._lifecycle(child, before.state.value, before if ended else record, record)
        if ended:
            lifecycle = self._death(lifecycle, child, before, record, ending)
            self._supervisor.logs.write(HISTORY_LOG, messages.encode(lifecycle).decode())
            if lifecycle.stacks:
                # In one piece: there may be as many lines as bytes.
                self._supervisor.logs.write(child.log_name, f"[stacks of its threads and tasks]\n{lifecycle.stacks}")
        self._outbox.add(lifecycle)
        self._tell_records()
        return True

    def settle(self) -> None:
        """Record where bots that went to and fro have got to; to be called about once a second."""
        now = time.time()
        for key in list(self._owed):
            child = self._supervisor.children.get(key)
            if child is not None and 0 <= now - child.recorded_at < FLAPS_APART:
                continue
            self._owed.discard(key)
            if child is not None and child.record.state.value != child.recorded_state:
                self._outbox.add(self._lifecycle(child, child.recorded_state, child.record, child.record))
        self._tell_records()

    def _lifecycle(self, child: Child, from_state: str, of: Record, now_is: Record) -> messages.Lifecycle:
        self._seq += 1
        self._owed.discard(child.key)
        child.recorded_at, child.recorded_state = time.time(), now_is.state.value
        return messages.Lifecycle(
            seq=self._seq,
            at=child.recorded_at,
            name=child.name,
            bot_id=child.key,
            incarnation=of.incarnation,
            from_state=from_state,
            to_state=now_is.state.value,
            reason=now_is.reason,
            pid=of.pid,
        )

    def _death(
        self, lifecycle: messages.Lifecycle, child: Child, before: Record, after: Record, ending: _Ending | None
    ) -> messages.Lifecycle:
        """The record of the end of an incarnation."""
        now = time.monotonic()
        judged = before.state is not State.STOPPING or before.after_stop is AfterStop.FAIL
        failed = after.last_failure if judged else None
        exit_ = ending.exit if ending is not None else None
        if failed is not None:
            child.failed_at, child.last_exit = lifecycle.at, str(exit_) if exit_ is not None else None
            child.failures += TREATMENT[failed].counted and failed is not Failure.MEMORY
        cause = explain.cause(before, after, exit_)
        return msgspec.structs.replace(
            lifecycle,
            exit=str(exit_) if exit_ is not None else "never started",
            failure=failed.value if failed is not None else None,
            duration=now - before.started_at if before.started_at is not None else None,
            log_tail=self._supervisor.logs.tail(child.log) if child.log is not None else [],
            cause=f"{cause}; {child.note}" if child.note else cause,
            action=explain.action(after, now),
            stacks=ending.stacks if ending is not None and failed in _WITH_STACKS else "",
            memory_mb=child.gauges.get("pss_mb"),
            silent_for=now - child.heartbeat_at if child.heartbeat_at is not None else None,
        )

    def snapshot(self, request: int = 0) -> messages.Snapshot:
        """The whole view."""
        now = time.monotonic()
        supervisor = self._supervisor
        bots = self._bots()
        others = [child for child in supervisor.children.values() if child.kind is not Kind.BOT]
        return messages.Snapshot(
            id=request,
            pid=os.getpid(),
            state="stopping" if supervisor.shutting_down else "running",
            started_at=self._started,
            generation=self.generation,
            bots=[self._status(child, now) for child in bots],
            services=[
                messages.ServiceStatus(
                    name=child.name,
                    state=child.record.state.value,
                    pid=child.record.pid,
                    restarts=child.record.restarts,
                )
                for child in others
            ],
            forkservers=supervisor.generations.statuses(),
            breaker=supervisor.machine.breaker.reason,
            gauges=self._own_gauges(),
        )

    def _own_gauges(self) -> dict[str, float]:
        supervisor = self._supervisor
        return {
            "starting": supervisor.machine.turns.taken,
            "waiting_to_start": supervisor.machine.turns.waiting,
            "held_back": supervisor.machine.breaker.held,
            "longest_turn_ms": round(supervisor.loop.longest_turn * 1e3, 3),
            "longest_turn_cpu_ms": round(supervisor.loop.longest_turn_cpu * 1e3, 3),
            "open_files": _open_files(),
            "threads": threading.active_count(),
        }

    def held_credentials(self) -> dict[str, int]:
        """Generation of the credentials held for each bot, by bot_id."""
        return {
            str(child.key): child.credentials.generation
            for child in self._supervisor.children.values()
            if child.credentials is not None
        }

    @staticmethod
    def _status(child: Child, now: float) -> messages.BotStatus:
        record = child.record
        alive = record.state in HAS_PROCESS
        return messages.BotStatus(
            name=child.name,
            bot_id=child.key,
            state=record.state.value,
            reason=record.reason,
            pid=record.pid if alive else None,
            incarnation=record.incarnation,
            restarts=record.restarts,
            last_failure=record.last_failure.value if record.last_failure is not None else None,
            last_failure_at=child.failed_at,
            last_exit=child.last_exit,
            since=child.wall_since,
            started_at=child.wall_started if alive else None,
            heartbeat_age=now - child.heartbeat_at if child.heartbeat_at is not None and alive else None,
            wanted=record.wanted,
            credentials_generation=child.credentials.generation if child.credentials is not None else 0,
            gauges=child.gauges,
            counters=child.counters,
            forkserver=child.forked_from if alive else 0,
            code=child.source.code,
            assigned=child.source.generation,
            failures=child.failures,
            shut_away=record.shut_away,
        )

    # --- the wanted fleet ------------------------------------------------------------------------------------------

    def _desire(self, desired: messages.Desired) -> None:
        supervisor = self._supervisor
        if supervisor.shutting_down:
            return
        self.generation = desired.generation
        self.applied = msgspec.Raw(bytes(desired.applied))
        for bot in desired.bots:
            self._update(bot)
        wanted = {bot.bot_id: Wanted(bot.digest, bot.enabled) for bot in desired.bots}
        supervisor.perform(supervisor.machine.desire(wanted, time.monotonic()))
        supervisor.owner.desired(desired.generation)

    def _update(self, bot: messages.BotChild) -> None:
        supervisor = self._supervisor
        policy = bot_policy(bot.policy)
        child = supervisor.children.get(bot.bot_id)
        if child is None:
            child = Child(bot.bot_id, bot.name, Kind.BOT, Record(bot.bot_id, policy), entry=BOT_ENTRY)
            supervisor.add(child)
        child.name = bot.name
        if child.digest != bot.digest:
            # It is to be restarted with what the operator has now; what it was rolled back to is over.
            child.digest, child.source = bot.digest, messages.Source()
        child.config = msgspec.Raw(bytes(bot.config))
        child.record = supervisor.machine.set_policy(bot.bot_id, policy)
        if bot.credentials is not None:
            child.credentials = bot.credentials
        self._limit(child, Limits(bot.memory, bot.open_files, bot.file_size, bot.cpu, bot.processes))
        if child.live != bot.live:
            child.live = bot.live
            supervisor.send(child, messages.Adjust(settings=bot.live))
        supervisor.owner.keep_secret(bot.secrets)

    def _limit(self, child: Child, limits: Limits) -> None:
        """Give a bot new limits while it runs; where the kernel refuses that, by a restart."""
        before, child.limits = child.limits, limits
        pid = child.record.pid
        if before == limits or pid is None or not child.record.wanted or child.record.state not in HAS_PROCESS:
            return
        done = self._adjust_group(child, before, limits)
        changes = [
            (resource.RLIMIT_NOFILE, before.open_files, limits.open_files),
            (resource.RLIMIT_FSIZE, before.file_size, limits.file_size),
        ]
        if hard_by_rlimit(child, self._supervisor.groups) and before.memory != limits.memory:
            held = linux.data_limit(pid)
            inherited = held - before.memory if before.memory else linux.data_bytes(pid)
            changes.append((resource.RLIMIT_DATA, held, limits.memory + inherited if limits.memory else 0))
        for which, old, new in changes:
            done = (old == new or linux.set_limit(pid, which, new)) and done
        self._supervisor.owner.log("info", "limits changed", bot=child.name, live=done)
        if not done:
            self._supervisor.dispatch(child, events.Restart("its limits can't be changed while it runs"))

    def _adjust_group(self, child: Child, before: Limits, limits: Limits) -> bool:
        """Of the limits that the bot's control group keeps; whether each that has changed is changed there."""
        groups = self._supervisor.groups
        if not child.cgroup or groups is None:
            return True
        kept = {
            "memory_max": ("memory", before.memory, limits.memory),
            "cpu": ("cpu", before.cpu, limits.cpu),
            "processes": ("pids", before.processes, limits.processes),
        }
        changed: dict[str, Any] = {
            name: new
            for name, (controller, old, new) in kept.items()
            if old != new and controller in groups.controllers
        }
        return not changed or groups.adjust(child.cgroup, **changed)

    def _rotate(self, message: messages.Rotate) -> None:
        child = self._bot(message.bot_id)
        if child is None:
            return
        child.credentials = message.credentials
        self._supervisor.send(child, messages.Rotate(credentials=message.credentials))

    def _bot(self, bot_id: int) -> Child | None:
        child = self._supervisor.children.get(bot_id)
        return child if child is not None and child.kind is Kind.BOT else None

    def _bots(self) -> list[Child]:
        return [child for child in self._supervisor.children.values() if child.kind is Kind.BOT]

    # --- commands --------------------------------------------------------------------------------------------------

    def _command(self, command: messages.Command) -> tuple[bool, str]:
        if command.verb == "shutdown":
            return True, "shutting down"
        if command.verb not in commands.VERBS:
            return False, f"unknown command {command.verb!r}"
        bots = self._bots()
        if command.name:
            bots = [child for child in bots if child.name == command.name]
            if not bots:
                return False, f"no bot is called {command.name!r}"
            refusal = commands.refusal(command.verb, command.name, bots[0].record)
            if refusal is not None:
                return False, refusal
        else:
            enabled = self._supervisor.machine.enabled
            bots = [child for child in bots if commands.concerns_all(command.verb, child.record, enabled(child.key))]
        for child in bots:
            self._supervisor.dispatch(child, commands.meaning(command.verb, command.reason))
        return True, ""

    def _tell_records(self) -> None:
        control = self._control()
        while control is not None and (record := self._outbox.next()) is not None:
            self._supervisor.send(control, record)

    def _tell(self, message: messages.Message) -> bool:
        """Send to `control`; False when there is none."""
        control = self._control()
        if control is not None:
            self._supervisor.send(control, message)
        return control is not None

    def _control(self) -> Child | None:
        """The `control` that listens; None while there is none."""
        children = self._supervisor.children.values()
        return next((child for child in children if child.kind is Kind.CONTROL and child.record.ready), None)


def _open_files() -> int:
    """Descriptors in use. One is needed to count them: where none is left, as many as there may be."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
