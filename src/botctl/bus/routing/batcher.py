"""What the router makes of the entries it has read: the commands of one MULTI. Pure: time is asked of `now`.

Every entry ends acknowledged and deleted, in the same MULTI that writes what became of it: to the log and the
mailboxes, or to the dead letters with the reason. Whatever stands in an entry may be hostile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from botctl.bus.event_types.catalogue import log_of, validate
from botctl.bus.events import FLEET, Event, Log, decode_event, encode_event, event_id, may_use
from botctl.bus.reading.dead_letters import MAX_BODY, dead_letter_command
from botctl.bus.routing.batch import MAX_BYTES, Batch, Rejected
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.requests import Refusal, Refused, Switchboard
from botctl.bus.routing.seen import Seen
from botctl.bus.topology import AGAIN, FIELD, ROUTER_GROUP, Receiver, Topology, source_of
from botctl.bus.wire import Command
from botctl.errors import ProtocolError

_FIELD, _AGAIN = FIELD.encode(), AGAIN.encode()


class Batcher:
    """Fills batches. `seen` and `switchboard` are only asked here; they learn what was done once that is certain.

    `now` gives seconds since the epoch.
    """

    def __init__(
        self,
        topology: Topology,
        fanout: Fanout,
        seen: Seen,
        switchboard: Switchboard,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._topology = topology
        self._fanout = fanout
        self._seen = seen
        self._switchboard = switchboard
        self._now = now
        self._logs = {log: topology.log(log) for log in Log}

    def add(self, batch: Batch, bot_id: int, entry_id: bytes, fields: Any) -> int:
        """Put one entry of this bot's out stream into the batch. `fields` is None if the entry is gone already.

        How many bytes it puts into mailboxes.
        """
        copies = batch.copies
        self._add(batch, bot_id, entry_id, fields)
        return batch.copies - copies

    def _add(self, batch: Batch, bot_id: int, entry_id: bytes, fields: Any) -> None:
        batch.finished.setdefault(bot_id, []).append(entry_id)
        if not fields:
            batch.vanished[bot_id] = batch.vanished.get(bot_id, 0) + 1
            return
        again = len(fields) == 4 and fields[2] == _AGAIN
        body = fields[1] if (len(fields) == 2 or again) and fields[0] == _FIELD else None
        try:
            if body is None:
                raise ProtocolError("the entry is not one event")
            event = decode_event(body)
            if not may_use(bot_id, event.id):  # Receivers keep ids: theirs would be taken for what they have already.
                raise ProtocolError(f"the id {event.id} is another bot's")
            direct = event.to or event.reply_to
            if not direct:
                event = _stamped(validate(event, source_of(bot_id)), bot_id)
                encoded = encode_event(event)
            key = (bot_id, event.id)
            if not again and (key in self._seen or key in batch.routed):
                batch.duplicates += 1
            elif direct:
                self._connect(batch, bot_id, entry_id, event)
            else:
                batch.routed[key] = None
                self._write(batch, self._logs[log_of(event.type)], bot_id, entry_id, encoded)
                for receiver in self._fanout.receivers(event, bot_id):
                    self._deliver(batch, receiver, bot_id, entry_id, encoded)
        except ProtocolError as error:
            self._reject(batch, bot_id, entry_id, error.message, body, fields)

    def _connect(self, batch: Batch, bot_id: int, entry_id: bytes, event: Event) -> None:
        """A request, or a reply to one: to one mailbox, and without its data to the log."""
        if not bot_id:
            raise ProtocolError("the fleet has no mailbox that a reply could come to")
        log, now = self._logs[log_of(event.type)], self._now()
        if event.is_request:
            found = self._switchboard.admit(event, bot_id, now)
            if not isinstance(found, int):
                self._refuse(batch, bot_id, entry_id, event, found, now)
                return
            receiver = found
        else:
            asker = self._switchboard.expects(event, bot_id, now)
            if asker is None:
                batch.expired += 1
                return
            receiver = asker
        event = msgspec.structs.replace(
            event,
            source=source_of(bot_id),
            source_name=self._switchboard.name(bot_id) or UNSET,
            to=source_of(receiver),
            replay=UNSET,
        )
        try:
            encoded = encode_event(event)
        except ProtocolError as error:
            if not event.is_request:
                raise
            self._refuse(batch, bot_id, entry_id, event, Refused(Refusal.TOO_LARGE, error.message), now)
            return
        batch.routed[bot_id, event.id] = None
        if event.is_request:
            batch.asked.append((bot_id, event.id, receiver, float(event.deadline or 0.0)))
        else:
            batch.answered.append((receiver, str(event.reply_to)))
        self._write(batch, log, bot_id, entry_id, encode_event(msgspec.structs.replace(event, data={})))
        self._deliver(batch, receiver, bot_id, entry_id, encoded)

    def _refuse(self, batch: Batch, bot_id: int, entry_id: bytes, event: Event, refused: Refused, now: float) -> None:
        """An answer at once, in the fleet's name; none for what nobody waits for any more."""
        batch.routed[bot_id, event.id] = None
        if refused.why is Refusal.EXPIRED:
            batch.expired += 1
            return
        batch.refused += 1
        reply = Event(
            id=event_id(0, f"refused:{bot_id}:{event.id}", 0),
            type=event.type,
            source=FLEET,
            occurred_at=now,
            correlation_id=event.correlation_id,
            causation_id=f"event:{event.id}"[:200],
            data={"detail": refused.detail},
            to=source_of(bot_id),
            reply_to=event.id,
            error=refused.why.value,
        )
        self._deliver(batch, bot_id, bot_id, entry_id, encode_event(reply))

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

    def _deliver(self, batch: Batch, receiver: Receiver, bot_id: int, entry_id: bytes, body: bytes) -> None:
        self._write(batch, self._topology.inlet(receiver), bot_id, entry_id, body)
        batch.delivered += 1
        batch.copies += len(body)
        batch.deliveries[receiver, bot_id] = batch.deliveries.get((receiver, bot_id), 0) + 1

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
