"""What the router makes of the entries it has read: the commands of one MULTI. Pure but for the event codec.

Every entry ends acknowledged and deleted, in the same MULTI that writes what became of it: to the log and the
mailboxes, or to the dead letters with the reason. Whatever stands in an entry may be hostile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botctl.bus.catalogue import log_of, validate
from botctl.bus.dead_letters import MAX_BODY, dead_letter_command
from botctl.bus.events import Event, Log, decode_event, encode_event
from botctl.bus.fanout import Fanout
from botctl.bus.seen import Seen
from botctl.bus.topology import AGAIN, FIELD, ROUTER_GROUP, Topology, source_of
from botctl.bus.wire import Command
from botctl.errors import ProtocolError

MAX_COMMANDS = 1_000
"""Commands of one MULTI, about: the server does nothing else meanwhile."""

MAX_BYTES = 1024 * 1024
"""Bytes of events in one MULTI, about. Servers count what a MULTI has queued against client-query-buffer-limit."""

_FIELD, _AGAIN = FIELD.encode(), AGAIN.encode()


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
    delivered: int = 0
    deliveries: dict[tuple[int, int], int] = field(default_factory=dict)
    """Of these, how many by receiver and publisher."""
    duplicates: int = 0

    @property
    def full(self) -> bool:
        """Whether it should be executed before more is added."""
        return len(self.commands) >= MAX_COMMANDS or self.size >= MAX_BYTES

    @property
    def entries(self) -> int:
        """How many entries are finished by it."""
        return sum(map(len, self.finished.values()))


class Batcher:
    """Fills batches. `seen` is only asked here; it learns what was routed once that is certain."""

    def __init__(self, topology: Topology, fanout: Fanout, seen: Seen) -> None:
        self._topology = topology
        self._fanout = fanout
        self._seen = seen
        self._logs = {log: topology.log(log) for log in Log}
        self._mailbox: Callable[[int], str] = topology.mailbox

    def add(self, batch: Batch, bot_id: int, entry_id: bytes, fields: Any) -> None:
        """Put one entry of this bot's out stream into the batch. `fields` is None if the entry is gone already."""
        batch.finished.setdefault(bot_id, []).append(entry_id)
        if not fields:
            batch.vanished[bot_id] = batch.vanished.get(bot_id, 0) + 1
            return
        again = len(fields) == 4 and fields[2] == _AGAIN
        body = fields[1] if (len(fields) == 2 or again) and fields[0] == _FIELD else None
        try:
            if body is None:
                raise ProtocolError("the entry is not one event")
            event = _stamped(validate(decode_event(body), source_of(bot_id)), bot_id)
            encoded = encode_event(event)
        except ProtocolError as error:
            self._reject(batch, bot_id, entry_id, error.message, body, fields)
            return
        key = (bot_id, event.id)
        if not again and (key in self._seen or key in batch.routed):
            batch.duplicates += 1
            return
        batch.routed[key] = None
        self._write(batch, self._logs[log_of(event.type)], bot_id, entry_id, encoded)
        for receiver in self._fanout.receivers(event.type, bot_id):
            self._write(batch, self._mailbox(receiver), bot_id, entry_id, encoded)
            batch.delivered += 1
            batch.deliveries[receiver, bot_id] = batch.deliveries.get((receiver, bot_id), 0) + 1

    def seal(self, batch: Batch) -> list[list[Command]]:
        """The commands, a list for each MULTI; the acknowledgements are in the last one, together with the last writes.

        It is one MULTI unless a large event has many receivers. If the router dies between several, some mailboxes
        get that event twice.
        """
        parts: list[list[Command]] = [[]]
        size = 0
        for command, (_, _, body) in zip(batch.commands, batch.writes, strict=True):
            if size >= 2 * MAX_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(command)
            size += len(body)
        for bot_id, ids in batch.finished.items():
            stream = self._topology.out(bot_id)
            parts[-1].append(("XACK", stream, ROUTER_GROUP, *ids))
            parts[-1].append(("XDEL", stream, *ids))
        return parts

    def dead_letter(self, bot_id: int, entry_id: str, reason: str, body: bytes, *, whole: bool = True) -> Command:
        """The command that writes a dead letter; `whole` False: the body only describes what it was."""
        stream = self._topology.out(bot_id)
        return dead_letter_command(
            self._topology, stream, entry_id, reason, body, source=source_of(bot_id), whole=whole
        )

    def _write(self, batch: Batch, stream: str, bot_id: int, entry_id: bytes, body: bytes) -> None:
        batch.commands.append(("XADD", stream, "*", FIELD, body))
        batch.size += len(body)
        batch.writes.append((bot_id, entry_id.decode(), body))

    def _reject(self, batch: Batch, bot_id: int, entry_id: bytes, reason: str, body: bytes | None, fields: Any) -> None:
        name, kept = entry_id.decode(), body if body is not None else _shown(fields)
        batch.rejected.append(Rejected(bot_id, name, reason, kept))
        batch.commands.append(self.dead_letter(bot_id, name, reason, kept, whole=body is not None))
        batch.size += min(len(kept), MAX_BODY)
        batch.writes.append((bot_id, name, kept[:MAX_BODY]))


def _shown(fields: Any) -> bytes:
    """The beginning of an entry that isn't one event, which may have any number of fields of any size."""
    shown = b""
    for word in fields:
        if len(shown) >= MAX_BODY:
            break
        shown += b"%d:%s " % (len(word), word[:MAX_BODY])
    return shown[:MAX_BODY]


def _stamped(event: Event, bot_id: int) -> Event:
    return Event(
        id=event.id,
        type=event.type,
        version=event.version,
        source=source_of(bot_id),
        occurred_at=event.occurred_at,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        data=event.data,
    )
