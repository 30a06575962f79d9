"""The supervisor's desk for `control`: the wanted fleet and commands come in, lifecycle records and snapshots go out.

Lifecycle records are kept until `control` has stored them, so that a `control` that died misses none.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from botctl.runtime import messages
from botctl.runtime.children import Child, Kind, bot_policy
from botctl.supervision import events
from botctl.supervision.model import HAS_PROCESS, Record, State
from botctl.supervision.reconcile import Wanted, reconcile

if TYPE_CHECKING:
    from botctl.runtime.supervisor import ProcessSupervisor

KEPT_RECORDS = 10_000
BOT_ENTRY = "botctl.bot.process:main"

_MOODS = frozenset({State.RUNNING, State.DEGRADED, State.PAUSED})


class Desk:
    """Belongs to one supervisor; has no thread and no state but what it must remember for the next `control`."""

    def __init__(self, supervisor: ProcessSupervisor) -> None:
        self._supervisor = supervisor
        self._records: deque[messages.Lifecycle] = deque(maxlen=KEPT_RECORDS)
        self._seq = 0
        self._endings: dict[int, str] = {}
        self._started = time.time()
        self.generation = 0
        self.applied = msgspec.Raw(b"null")
        self.never_served = True

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
                while self._records and self._records[0].seq <= message.seq:
                    self._records.popleft()
            case messages.Rotate():
                self._rotate(message)
            case _:
                self._supervisor.owner.log("error", "unexpected message", type=type(message).__name__)

    def control_ready(self) -> None:
        """A new `control` listens: everything the last one had not stored comes again."""
        self.never_served = False
        for record in self._records:
            self._tell(record)

    def reload(self) -> None:
        """SIGHUP."""
        self._tell(messages.Reload())

    # --- from the supervisor ---------------------------------------------------------------------------------------

    def ending(self, child: Child, how: str) -> None:
        """A process has ended; the transition that follows carries `how`."""
        self._endings[child.key] = how

    def transition(self, child: Child, before: Record, event: events.Event) -> bool:
        """Record a transition of a bot. False when it is not worth a word: a bot that flaps is heard once a second."""
        how = self._endings.pop(child.key, None)
        if child.kind is not Kind.BOT:
            return True
        record = child.record
        now = time.time()
        if {before.state, record.state} <= _MOODS and 0 <= now - child.recorded_at < 1.0:
            return False
        child.recorded_at = now
        self._seq += 1
        ended = isinstance(event, events.Exited | events.SpawnFailed)
        started = before.started_at
        failed = ended and record.state in (State.BACKOFF, State.QUARANTINED)
        lifecycle = messages.Lifecycle(
            seq=self._seq,
            at=now,
            name=child.name,
            bot_id=child.key,
            incarnation=before.incarnation if ended else record.incarnation,
            from_state=before.state.value,
            to_state=record.state.value,
            reason=record.reason,
            pid=before.pid if ended else record.pid,
            exit=(how or "never started") if ended else None,
            failure=record.last_failure.value if failed and record.last_failure is not None else None,
            duration=record.since - started if ended and started is not None else None,
            log_tail=self._supervisor.logs.tail(child.log_token, child.log_name) if failed else [],
        )
        self._records.append(lifecycle)
        self._tell(lifecycle)
        return True

    def snapshot(self, request: int = 0) -> messages.Snapshot:
        """The whole view."""
        now = time.monotonic()
        supervisor = self._supervisor
        bots = [child for child in supervisor.children.values() if child.kind is Kind.BOT]
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
        )

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
            since=child.wall_since,
            started_at=child.wall_started if alive else None,
            heartbeat_age=now - child.heartbeat_at if child.heartbeat_at is not None and alive else None,
            wanted=record.wanted,
            credentials_generation=child.credentials.generation if child.credentials is not None else 0,
            gauges=child.gauges,
            counters=child.counters,
        )

    # --- the wanted fleet ------------------------------------------------------------------------------------------

    def _desire(self, desired: messages.Desired) -> None:
        supervisor = self._supervisor
        if supervisor.shutting_down:
            return
        self.generation = desired.generation
        self.applied = msgspec.Raw(bytes(desired.applied))
        bots = {child.key: child for child in supervisor.children.values() if child.kind is Kind.BOT}
        current = {key: child.wanted for key, child in bots.items() if child.wanted is not None and not child.forget}
        wanted = {bot.bot_id: Wanted(bot.digest, bot.enabled) for bot in desired.bots}
        plan = reconcile(current, wanted)
        for bot in desired.bots:
            self._update(bot, wanted[bot.bot_id])
        for bot_id in plan.forget:
            bots[bot_id].forget = True
        for bot_id, event in plan.events.items():
            child = supervisor.children[bot_id]
            if isinstance(event, events.Restart):
                if child.record.state is State.QUARANTINED and not child.record.shut_away:
                    event = events.Release()  # its failures may have been the old configuration's
                elif not child.record.wanted:
                    continue  # an operator stopped it; the new configuration waits for `start`
            supervisor.dispatch(child, event)

    def _update(self, bot: messages.BotChild, wanted: Wanted) -> None:
        supervisor = self._supervisor
        policy = bot_policy(bot.policy)
        child = supervisor.children.get(bot.bot_id)
        if child is None:
            child = Child(bot.bot_id, bot.name, Kind.BOT, Record(bot.bot_id, policy), entry=BOT_ENTRY)
            supervisor.add(child)
        child.name, child.wanted, child.forget = bot.name, wanted, False
        child.config = msgspec.Raw(bytes(bot.config))
        child.memory, child.open_files = bot.memory, bot.open_files
        child.record = child.record.but(policy=policy)
        if bot.credentials is not None:
            child.credentials = bot.credentials
        if child.live != bot.live:
            child.live = bot.live
            supervisor.send(child, messages.Adjust(settings=bot.live))
        supervisor.owner.keep_secret(bot.secrets)

    def _rotate(self, message: messages.Rotate) -> None:
        child = self._supervisor.children.get(message.bot_id)
        if child is None or child.kind is not Kind.BOT:
            return
        child.credentials = message.credentials
        self._supervisor.send(child, messages.Rotate(credentials=message.credentials))

    # --- commands --------------------------------------------------------------------------------------------------

    def _command(self, command: messages.Command) -> tuple[bool, str]:
        if command.verb == "shutdown":
            return True, "shutting down"
        event = _event_of(command)
        if event is None:
            return False, f"unknown command {command.verb!r}"
        bots = [child for child in self._supervisor.children.values() if child.kind is Kind.BOT]
        if command.name:
            bots = [child for child in bots if child.name == command.name]
            if not bots:
                return False, f"no bot is called {command.name!r}"
            if bots[0].record.state is State.QUARANTINED and command.verb in ("start", "restart"):
                return False, f"{command.name} is quarantined ({bots[0].record.reason}); release it instead"
        for child in bots:
            self._supervisor.dispatch(child, event)
        return True, ""

    def _tell(self, message: messages.Message) -> None:
        for child in self._supervisor.children.values():
            if child.kind is Kind.CONTROL and child.record.ready:
                self._supervisor.send(child, message)
                return


def _event_of(command: messages.Command) -> events.Event | None:
    match command.verb:
        case "start":
            return events.Want()
        case "stop":
            return events.Unwant(command.reason or "stopped by operator")
        case "restart":
            return events.Restart(command.reason or "restarted by operator")
        case "release":
            return events.Release()
        case "quarantine":
            return events.Quarantine(command.reason or "quarantined by operator")
        case _:
            return None
