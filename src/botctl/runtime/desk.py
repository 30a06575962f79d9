"""The supervisor's desk for `control`: its messages come in and are passed on, its commands are answered.

It belongs to one supervisor; it decides nothing and has no thread. What it must remember for the next `control` is
little: that one was to be told to reload.
"""

from __future__ import annotations

import msgspec

from botctl.runtime import messages
from botctl.runtime.children import Children
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.generations import Generations
from botctl.runtime.owner import Owner
from botctl.runtime.record_keeper import RecordKeeper
from botctl.runtime.shutdown import Shutdown
from botctl.runtime.snapshots import Snapshots
from botctl.runtime.wanted_fleet import WantedFleet
from botctl.runtime.wire import Wire
from botctl.supervision import commands, events
from botctl.supervision.fleet_machine import FleetMachine


class Desk:
    """`never_served`: no `control` has been ready yet."""

    def __init__(
        self,
        *,
        children: Children,
        machine: FleetMachine,
        wire: Wire,
        dispatcher: Dispatcher,
        records: RecordKeeper,
        wanted: WantedFleet,
        snapshots: Snapshots,
        generations: Generations,
        shutdown: Shutdown,
        owner: Owner,
    ) -> None:
        self.never_served = True
        self._children = children
        self._machine = machine
        self._wire = wire
        self._dispatcher = dispatcher
        self._records = records
        self._wanted = wanted
        self._snapshots = snapshots
        self._generations = generations
        self._shutdown = shutdown
        self._owner = owner
        self._reload_waits = False

    def handle(self, message: messages.ControlUpward) -> None:
        """A message only `control` may send."""
        match message:
            case messages.Desired():
                if not self._shutdown.begun:
                    self._wanted.take(message)
            case messages.Command():
                ok, text = self._command(message)
                self._tell(messages.CommandResult(id=message.id, ok=ok, message=text))
                if ok and message.verb == "shutdown":
                    self._shutdown.begin()
            case messages.GetSnapshot():
                self._tell(self._snapshots.take(message.id))
            case messages.Recorded():
                self._records.stored(message.seq)
            case messages.Rotate():
                self._rotate(message)
            case messages.Wake(bot_id=bot_id):
                self._wake(bot_id)
            case messages.Assign(sources=sources):
                for bot_id, source in sources.items():
                    if (child := self._children.bot(bot_id)) is not None:
                        child.source = source
            case messages.Generation(id=number, verb=verb, number=wanted):
                ok, text, generation = self._generations.command(verb, wanted, self._children.bots())
                self._tell(messages.CommandResult(id=number, ok=ok, message=text, generation=generation))
            case messages.Hearing(bot_id=bot_id, deaf=deaf, reason=reason):
                if (child := self._children.bot(bot_id)) is not None:
                    self._dispatcher.dispatch(child, events.Hearing(deaf, reason[:500]))
            case _:
                self._owner.log("error", "unexpected message", type=type(message).__name__)

    def control_ready(self) -> None:
        """A new `control` listens: it is told what the last one has missed."""
        self.never_served = False
        self._records.tell_again()
        if self._reload_waits:
            self.reload()

    def reload(self) -> None:
        """SIGHUP; while there is no `control`, the next one is told."""
        self._reload_waits = not self._tell(messages.Reload())

    def _wake(self, bot_id: int) -> None:
        """Not to a bot that has not read what it was sent before: however often it is woken, its pipe holds no more."""
        child = self._children.bot(bot_id)
        if child is not None and child.pipes is not None and not child.pipes.wants_to_write:
            self._wire.send(child, messages.Wake())

    def _rotate(self, message: messages.Rotate) -> None:
        child = self._children.bot(message.bot_id)
        if child is None:
            return
        given, before = message.credentials, child.credentials
        if before is not None and not given.previous_database:  # a `control` that was restarted doesn't know them
            given = msgspec.structs.replace(given, previous_database=before.database, previous_redis=before.redis)
        child.credentials = given
        self._owner.keep_secret(child.log_name, messages.passwords(given))
        self._wire.send(child, messages.Rotate(credentials=given))

    def _command(self, command: messages.Command) -> tuple[bool, str]:
        if command.verb == "shutdown":
            return True, "shutting down"
        if command.verb not in commands.VERBS:
            return False, f"unknown command {command.verb!r}"
        bots = self._children.bots()
        if command.name:
            bots = [child for child in bots if child.name == command.name]
            if not bots:
                return False, f"no bot is called {command.name!r}"
            refusal = commands.refusal(command.verb, command.name, bots[0].record)
            if refusal is not None:
                return False, refusal
        else:
            enabled = self._machine.enabled
            bots = [child for child in bots if commands.concerns_all(command.verb, child.record, enabled(child.key))]
        for child in bots:
            self._dispatcher.dispatch(child, commands.meaning(command.verb, command.reason))
        return True, ""

    def _tell(self, message: messages.Message) -> bool:
        """Send to `control`; False when there is none."""
        control = self._children.control()
        if control is not None:
            self._wire.send(control, message)
        return control is not None
