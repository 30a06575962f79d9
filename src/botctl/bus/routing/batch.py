"""The commands of one MULTI of the router, and what will have happened when it is done. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from botctl.bus.topology import Receiver
from botctl.bus.wire import Command

MAX_COMMANDS = 1_000
"""Commands of one MULTI, about: the server does nothing else meanwhile."""

MAX_BYTES = 1024 * 1024
"""Bytes of events in one MULTI, about. Servers count what a MULTI has queued against client-query-buffer-limit."""


@dataclass(frozen=True)
class Rejected:
    """An entry that went to the dead letters."""

    bot_id: int
    entry_id: str
    reason: str
    body: bytes


@dataclass
class Batch:
    """Commands of one MULTI and what will have happened when it is done."""

    commands: list[Command] = field(default_factory=list)
    writes: list[tuple[int, str, bytes]] = field(default_factory=list)
    """Publisher, entry id and body of each command that writes an event, in order of `commands`."""
    finished: dict[int, list[bytes]] = field(default_factory=dict)
    """Entries to be acknowledged, by bot."""
    routed: dict[tuple[int, str], None] = field(default_factory=dict)
    """Bot and event id of each event routed."""
    rejected: list[Rejected] = field(default_factory=list)
    vanished: dict[int, int] = field(default_factory=dict)
    """Entries that were read once and are gone before they were routed, by bot."""
    size: int = 0
    copies: int = 0
    """Bytes of these that go into mailboxes."""
    delivered: int = 0
    deliveries: dict[tuple[Receiver, int], int] = field(default_factory=dict)
    """Of these, how many by receiver and publisher."""
    duplicates: int = 0
    asked: list[tuple[int, str, int, float]] = field(default_factory=list)
    """Requests delivered: asker, id, who was asked, deadline."""
    answered: list[tuple[int, str]] = field(default_factory=list)
    """Requests whose reply was delivered: asker and id."""
    refused: int = 0
    """Requests answered with an error at once."""
    expired: int = 0
    """Requests too late to be delivered, and replies that nobody waits for any more."""

    @property
    def full(self) -> bool:
        """Whether it should be executed before more is added."""
        return len(self.commands) >= MAX_COMMANDS or self.size >= MAX_BYTES

    @property
    def entries(self) -> int:
        """How many entries are finished by it."""
        return sum(map(len, self.finished.values()))

    def letters(self, dead_letters: str, replies: Sequence[Any]) -> list[tuple[Command, Any]]:
        """The commands that write to the dead letters, and their replies among those to all commands."""
        return [
            (command, reply)
            for command, reply in zip(self.commands, replies, strict=False)
            if command[1] == dead_letters
        ]
