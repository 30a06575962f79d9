"""What children say of themselves: readiness, heartbeats, last words. Whatever else `control` says is for its desk.

A bot's words are untrusted: they are redacted and cut before anybody else sees them, and too many break the protocol.
"""

from __future__ import annotations

import time

from botctl.errors import ProtocolError
from botctl.runtime import messages
from botctl.runtime.children import Child, Kind
from botctl.runtime.desk import Desk
from botctl.runtime.dispatcher import Dispatcher
from botctl.runtime.logs import LogKeeper
from botctl.runtime.owner import Owner
from botctl.supervision import events
from botctl.supervision.model import State

LAST_WORDS = 3
"""What a child will die of can be said better once or twice; more often it is meant to keep us busy."""

SAYABLE = frozenset(
    {
        messages.Failure.CRASH,
        messages.Failure.EXIT,
        messages.Failure.MEMORY,
        messages.Failure.BAD_TOKEN,
        messages.Failure.CODE,
    }
)
"""What a child can know of its end. The other classes are for others to see, and some of them count for nothing."""

PARDONS = 3
PARDONS_WITHIN = 3600.0
"""Of one bot so many within so many seconds: enough for updates that are found out in a row. One that is taken over
gains a few failures by it, and no life without end."""

REDACTED = 8192
"""Characters of a bot's words that are looked through for secrets; fewer of them are kept."""


class Reports:
    """`take` is called with each report, in order."""

    def __init__(self, dispatcher: Dispatcher, desk: Desk, logs: LogKeeper, owner: Owner) -> None:
        self._dispatcher = dispatcher
        self._desk = desk
        self._logs = logs
        self._owner = owner

    def take(self, child: Child, message: messages.ControlUpward) -> None:
        """Raises ProtocolError when a child says what it may not."""
        match message:
            case messages.Ready():
                self._dispatcher.dispatch(child, events.BecameReady())
                if child.kind is Kind.CONTROL:
                    self._owner.serving()
                    self._desk.control_ready()
            case messages.Heartbeat() if child.woken:
                return
            case messages.Heartbeat():
                self._heartbeat(child, message)
            case messages.Failing():
                child.last_words += 1
                if child.last_words > LAST_WORDS:
                    raise ProtocolError(f"more than {LAST_WORDS} last words")
                if message.failure not in SAYABLE:
                    raise ProtocolError(f"{message.failure.value} is not for a child to say")
                detail = self._redacted(child, message.detail)[:2000]
                self._dispatcher.dispatch(child, events.LastWords(message.failure, detail))
            case messages.Isolated():
                # Said before it runs code of its own; whatever follows may be made up.
                if child.isolation is not None and child.isolated is None:
                    child.isolated = message
            case messages.GaveUp(updates=n):
                self._pardon(child, n)
            case messages.Rotated(generation=generation):
                given = child.credentials.generation if child.credentials is not None else 0
                if generation == given != child.rotated:
                    child.rotated = generation
                    self._owner.log("info", "credentials rotated", bot=child.name, generation=generation)
            case messages.SetupDone():
                if child.kind is Kind.SETUP:
                    self._dispatcher.dismiss(child, "done")
                    self._owner.setup_done(bytes(message.result))
            case _:
                self._desk.handle(message)

    def _pardon(self, child: Child, updates: int) -> None:
        """The failures so far were not the bot's. That is its bare word, so it is taken only so often."""
        now = time.monotonic()
        recent = tuple(at for at in child.pardons if at > now - PARDONS_WITHIN)
        pardoned = len(recent) < PARDONS
        self._owner.log("warning", "updates given up", bot=child.name, updates=updates, failures_pardoned=pardoned)
        if pardoned:
            child.pardons = (*recent, now)
            self._dispatcher.dispatch(child, events.Pardoned())

    def _heartbeat(self, child: Child, message: messages.Heartbeat) -> None:
        if child.dumped and child.record.state is not State.FAILED:
            # It was acquitted: what it has written of that moment explains nothing later.
            self._dispatcher.forget_stacks(child)
        child.heartbeat_at = time.monotonic()
        child.gauges, child.counters = message.gauges, message.counters
        reason = self._redacted(child, message.reason)[:500] if message.reason else ""
        memory, updates = message.gauges.get("own_mb", 0.0), message.counters.get("updates", 0.0)
        self._dispatcher.dispatch(child, events.Beat(message.health, reason, memory, updates))

    def _redacted(self, child: Child, words: str) -> str:
        # To be cut only afterwards: half a secret is recognized by nobody.
        return self._logs.redact(child.log_name, words[:REDACTED])
