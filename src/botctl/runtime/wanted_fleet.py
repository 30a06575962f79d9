"""The wanted fleet that `control` sends: put on the books, and made so as far as `supervision` decides it.

Decides nothing itself. What `control` has noted of it is given back to the next one, unread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from botctl.runtime import messages
from botctl.runtime.children import Child, Children, Kind, Limits
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.live_limits import LiveLimits
from botctl.runtime.owner import Owner
from botctl.runtime.policies import bot_policy
from botctl.supervision import events
from botctl.supervision.fleet_machine import FleetMachine
from botctl.supervision.model import Record
from botctl.supervision.reconcile import Wanted

BOT_ENTRY = "botctl.bot.process:main"


class WantedFleet:
    """`generation` and `applied` are of the latest one; 0 and null before the first."""

    def __init__(
        self,
        *,
        children: Children,
        machine: FleetMachine,
        dispatcher: Dispatcher,
        limits: LiveLimits,
        send: Callable[[Child, messages.Adjust | messages.Rekey], None],
        owner: Owner,
    ) -> None:
        self.generation = 0
        self.applied = msgspec.Raw(b"null")
        self._children = children
        self._machine = machine
        self._dispatcher = dispatcher
        self._limits = limits
        self._send = send
        self._owner = owner

    def take(self, desired: messages.Desired) -> None:
        """From now on this one is wanted."""
        self.generation = desired.generation
        self.applied = msgspec.Raw(bytes(desired.applied))
        for bot in desired.bots:
            self._update(bot)
        wanted = {bot.bot_id: Wanted(bot.digest, bot.enabled) for bot in desired.bots}
        self._dispatcher.perform(self._machine.desire(wanted, time.monotonic()))
        self._owner.forget_secrets([child.log_name for child in self._children.bots()])
        self._owner.desired(desired.generation)

    def held_credentials(self) -> dict[str, int]:
        """Generation of the credentials held for each bot, by bot_id."""
        return {
            str(child.key): child.credentials.generation
            for child in self._children.values()
            if child.credentials is not None
        }

    def held_data_keys(self) -> dict[str, int]:
        """Id of the newest data key held for each bot, by bot_id."""
        return {str(child.key): max(key.id for key in child.keys) for child in self._children.values() if child.keys}

    def _update(self, bot: messages.BotChild) -> None:
        policy = bot_policy(bot.policy)
        child = self._children.get(bot.bot_id)
        if child is None:
            child = Child(bot.bot_id, bot.name, Kind.BOT, Record(bot.bot_id, policy), entry=BOT_ENTRY)
            self._dispatcher.add(child)
        child.name = bot.name
        if child.digest != bot.digest:
            # It is to be restarted with what the operator has now; what it was rolled back to is over.
            child.digest, child.source = bot.digest, messages.Source()
        child.config = msgspec.Raw(bytes(bot.config))
        child.isolation = bot.isolation
        child.record = self._machine.set_policy(bot.bot_id, policy)
        if bot.credentials is not None:
            child.credentials = bot.credentials
        if bot.keys and bot.keys != child.keys:
            child.keys = bot.keys
            self._send(child, messages.Rekey(keys=bot.keys))
        limits = Limits(bot.memory, bot.open_files, bot.file_size, bot.cpu, bot.processes)
        if not self._limits.apply(child, limits):
            self._dispatcher.dispatch(child, events.Restart("its limits can't be changed while it runs"))
        if child.live != bot.live:
            child.live = bot.live
            self._send(child, messages.Adjust(settings=bot.live))
        self._owner.keep_secret(child.log_name, [*bot.secrets, *messages.passwords(child.credentials)])
