"""Takes events out of the logs and gives them to one consumer once more. Reads and appends; changes no log.

A bot or a group has them put into its mailbox, in the order of the logs, each with a mark by which they are told from
the first delivery; a program outside has its group put back. Memory is bounded by a page, speed by the reader.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import msgspec
from redis.asyncio import Redis

from botctl.bus.events import Event, Log, encode_event
from botctl.bus.reading.lag import Place, measure
from botctl.bus.reading.mailbox_groups import before
from botctl.bus.reading.reader import read_logs
from botctl.bus.stream_reply import entry_order
from botctl.bus.topology import FIELD, MAILBOX_GROUP, Receiver, Topology
from botctl.bus.wire import Command, execute, transact
from botctl.errors import BotctlError, ProtocolError, UsageError

ROOM = 1_000
"""Entries that may stand unread in the mailbox while more are put into it: a tenth of what it holds at most."""

PATIENCE = 60.0
"""Seconds without the reader's having read anything, after which the replay gives up."""

_BATCH = 100
_BATCH_BYTES = 256 * 1024
_LOOK_EVERY = 0.1
_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True)
class Replayed:
    """How far it is. `looked_at` entries were read, `given` put into the mailbox (or would be), by type.

    `left_out`: they had become too large with their mark. `last` is the id of the last entry looked at.
    """

    looked_at: int = 0
    given: int = 0
    left_out: int = 0
    by_type: dict[str, int] = field(default_factory=dict)
    last: str = ""


class ReaderStuckError(BotctlError):
    """The consumer does not read; what was given so far stays given."""


class Replayer:
    """`redis` needs all rights on the namespace. Methods raise what Redis raises while it is away."""

    def __init__(self, redis: Redis, topology: Topology, *, room: int = ROOM, patience: float = PATIENCE) -> None:
        self._redis = redis
        self._topology = topology
        self._room = room
        self._patience = patience

    async def replay(
        self,
        receiver: Receiver,
        wanted: Callable[[Event], bool],
        mark: str,
        *,
        after: str,
        until: str | None = None,
        logs: Sequence[Log] = tuple(Log),
        dry_run: bool = False,
    ) -> AsyncIterator[Replayed]:
        """Yields how far it is, after each batch and at the end. Raises ReaderStuckError, UsageError for wrong ids.

        `after` and `until` are entry ids; what comes into the logs meanwhile is not looked at. Requests and replies are
        left out: nobody waits for them any more.
        """
        done, batch, first = Replayed(), list[Command](), ""
        stream, size = self._topology.inlet(receiver), 0
        end = entry_order(checked_id(until)) if until is not None else None
        (there,) = await execute(self._redis, [("EXISTS", stream)])
        if there != 1 and not dry_run:
            raise UsageError(f"there is no mailbox {stream}", hint="Bots get theirs when they are prepared to run.")
        async for _, entry_id, event in read_logs(self._redis, self._topology, logs, after, page=_BATCH):
            if end is not None and entry_order(entry_id) > end:
                break
            done = replace(done, looked_at=done.looked_at + 1, last=entry_id)
            if event.to or event.reply_to or not wanted(event):
                continue
            try:
                body = encode_event(msgspec.structs.replace(event, replay=mark))
            except ProtocolError:
                done = replace(done, left_out=done.left_out + 1)
                continue
            counts = done.by_type | {event.type: done.by_type.get(event.type, 0) + 1}
            done = replace(done, given=done.given + 1, by_type=counts)
            first = first if batch else entry_id
            batch.append(("XADD", stream, "*", FIELD, body))
            size += len(body)
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                await self._give(batch, stream, done, first, dry_run=dry_run)
                batch, size = [], 0
                yield done
        await self._give(batch, stream, done, first, dry_run=dry_run)
        yield done

    async def _give(self, batch: list[Command], stream: str, done: Replayed, first: str, *, dry_run: bool) -> None:
        if not batch or dry_run:
            return
        await self._wait_for_room(stream, done.given - len(batch), first)
        for reply in await transact(self._redis, batch):
            if isinstance(reply, BaseException):
                raise reply

    async def _wait_for_room(self, stream: str, given: int, following: str) -> None:
        least, moved_at = None, time.monotonic()
        while True:
            (lag,) = await measure(self._redis, [Place("", stream, MAILBOX_GROUP)])
            waiting = lag.unread + lag.pending
            if waiting < self._room:
                return
            if least is None or waiting < least:
                least, moved_at = waiting, time.monotonic()
            if time.monotonic() - moved_at > self._patience:
                raise ReaderStuckError(
                    f"the reader of {stream} has not read for {self._patience:.0f} s; {given} events were given again",
                    hint=f"{waiting} wait for it. Once it reads, go on with --from {following}",
                )
            await asyncio.sleep(_LOOK_EVERY)


def checked_id(text: str) -> str:
    """An entry id. Raises UsageError."""
    if _ID.fullmatch(text) is None:
        raise UsageError(f"{text!r} is no id of an entry", hint="`botctl events --json` shows them as `entry`.")
    return text


def from_time(at: float) -> str:
    """The id after which all entries of this moment and later come. `at` in seconds since the epoch."""
    return before(f"{max(0, int(at * 1000))}-0".encode())


def from_id(entry_id: str) -> str:
    """The id after which this entry comes. Raises UsageError."""
    return before(checked_id(entry_id).encode())
