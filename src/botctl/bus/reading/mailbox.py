"""A bot's side of its mailbox, or of a group's: read what the router has delivered, acknowledge what is stored.

At least once: whatever was read and not acknowledged comes again after a restart or a lost connection. Redis being
away never raises out of here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.backoff import Backoff
from botctl.bus.client import AWAY, BLOCK_MS, reason
from botctl.bus.events import Event, decode_event
from botctl.bus.topology import FIELD, MAILBOX_GROUP, Topology, consumer_of
from botctl.errors import ProtocolError

_log = structlog.get_logger("botctl.bus.reading.mailbox")
_CONSUMER = "bot"
_FIELD = FIELD.encode()


@dataclass(frozen=True)
class Entry:
    """One delivery. `event` is None when the entry can't be read; `error` then says why.

    `body` are the bytes as they came, for the dead letters; empty when there are none.
    """

    id: str
    event: Event | None
    error: str | None = None
    body: bytes = b""


class Mailbox:
    """The mailbox of one bot, or with a `group` that one's, read as one of its members.

    `redis` is a client made with `blocking=True`, shared with other mailboxes of the bot only. One task reads;
    `healthy` and `reason` say whether it can. Of a group what was delivered before comes one by one, so that an entry
    that ends the process is the only one whose deliveries go up.
    """

    def __init__(self, redis: Redis, topology: Topology, bot_id: int, group: str | None = None) -> None:
        self.healthy = True
        self.reason = ""
        self._redis = redis
        self._stream = topology.mailbox(bot_id) if group is None else topology.group(group)
        self._consumer = _CONSUMER if group is None else consumer_of(bot_id)
        self._most_again = 1 if group is not None else None
        self._backoff = Backoff()
        self._cursor: str | None = "0"
        """Where to go on among the entries delivered before and not acknowledged; None when there are none."""
        self._unsure_until: float | None = None
        """Until then a connection that was lost may still swallow deliveries, so the pending ones are asked for."""

    async def read(self, count: int = 100, block_ms: int = BLOCK_MS) -> list[Entry]:
        """Up to `count` entries, oldest first; first those once delivered and never acknowledged, then new ones.

        Waits up to `block_ms` (at most `BLOCK_MS`) and then returns an empty list. While Redis is away it waits and
        tries again, for as long as it takes.
        """
        while True:
            try:
                entries = await self._read(count, min(block_ms, BLOCK_MS))
            except AWAY as error:
                await self._wait_out(error)
            except BaseException:
                self._start_over()  # Cancelled: the server may have delivered entries that nobody has seen.
                raise
            else:
                self._recovered()
                return entries

    async def ack(self, ids: Sequence[str]) -> bool:
        """These entries are stored and need not come again. False if Redis is away: then they will come again."""
        if not ids:
            return True
        try:
            await self._redis.xack(self._stream, MAILBOX_GROUP, *ids)
        except AWAY as error:
            self._lost(error)
            return False
        return True

    def leave(self) -> None:
        """What was read last is not stored, and is to come again."""
        self._start_over()

    @property
    def again(self) -> bool:
        """Whether what comes next may have been delivered before."""
        return self._cursor is not None or self._unsure_until is not None

    async def _read(self, count: int, block_ms: int) -> list[Entry]:
        if self._cursor is None and self._unsure_until is not None:
            self._cursor = "0"
            if time.monotonic() > self._unsure_until:
                self._unsure_until = None
        if self._cursor is not None:
            pending = await self._fetch(self._cursor, self._most_again or count, None)
            self._cursor = pending[-1].id if pending else None
            if pending:
                return pending
        return await self._fetch(">", count, block_ms if block_ms > 0 else None)

    async def _fetch(self, after: str, count: int, block_ms: int | None) -> list[Entry]:
        reply: Any = await self._redis.xreadgroup(
            MAILBOX_GROUP, self._consumer, {self._stream: after}, count=count, block=block_ms
        )
        return [_entry(entry_id, fields) for entries in reply.values() for entry_id, fields in entries]

    async def _wait_out(self, error: BaseException) -> None:
        self._lost(error)
        await asyncio.sleep(self._backoff.next())

    def _start_over(self) -> None:
        self._cursor = "0"
        self._unsure_until = time.monotonic() + BLOCK_MS / 1000 + 2.0

    def _lost(self, error: BaseException) -> None:
        self._start_over()
        why = reason(error)
        if self.healthy or why != self.reason:
            _log.warning("mailbox can't be read", reason=why, error=type(error).__name__, detail=str(error)[:200])
        self.healthy, self.reason = False, why

    def _recovered(self) -> None:
        if not self.healthy:
            _log.info("mailbox can be read again")
        self.healthy, self.reason = True, ""
        self._backoff.reset()


def _entry(entry_id: bytes, fields: Any) -> Entry:
    name = entry_id.decode()
    if not fields:
        return Entry(name, None, "the entry was trimmed before it was read")
    body = fields.get(_FIELD)
    if body is None:
        return Entry(name, None, "the entry has no event")
    try:
        return Entry(name, decode_event(body), body=body)
    except ProtocolError as error:
        return Entry(name, None, error.message, body)
