"""Reads the logs: from any point, to the end or following. Never writes, never acknowledges."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis

from botctl.bus.backoff import Backoff
from botctl.bus.client import AWAY, BLOCK_MS
from botctl.bus.events import Event, Log, decode_event
from botctl.bus.stream_reply import entry_order, text_of
from botctl.bus.topology import FIELD, Topology
from botctl.bus.wire import Command, execute
from botctl.errors import ProtocolError, UsageError

_PAGE = 500
_FIELD = FIELD.encode()
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?|\$")


async def read_log(
    redis: Redis, topology: Topology, log: Log, after: str = "0", follow: bool = False
) -> AsyncIterator[tuple[str, Event]]:
    """The events of one log, oldest first, each with its entry id; `after` an entry id, or `$` for only new ones.

    Following needs a client made with `blocking=True`; it goes on for ever and waits while Redis is away. Raises
    UsageError for an `after` that is no entry id.
    """
    async for _, entry_id, event in read_logs(redis, topology, [log], after, follow):
        yield entry_id, event


async def read_logs(
    redis: Redis,
    topology: Topology,
    logs: Sequence[Log],
    after: str = "0",
    follow: bool = False,
    *,
    page: int = _PAGE,
) -> AsyncIterator[tuple[Log, str, Event]]:
    """The events of several logs together, by entry id, that is by the time they were routed; see `read_log`.

    `page`: entries of a log read at once.
    """
    if _ID.fullmatch(after) is None:
        raise UsageError(f"{after!r} is no entry id", hint="Use an id as `botctl events` prints it, 0, or $.")
    streams = {topology.log(log).encode(): log for log in logs}
    if not streams:
        return
    ends: dict[bytes, str] = {}
    cursors: dict[bytes, str] = {}
    backoff = Backoff()
    while True:
        try:
            if not ends:
                ends = await _ends(redis, streams)
                cursors = dict(ends) if after == "$" else dict.fromkeys(streams, after)
            entries = await _page(redis, cursors, BLOCK_MS if follow else None, page)
        except AWAY:
            if not follow:
                raise
            await asyncio.sleep(backoff.next())
            continue
        backoff.reset()
        if not entries and not follow:
            return
        for entry_id, stream, fields in entries:
            cursors[stream] = entry_id
            if not follow and entry_order(entry_id) > entry_order(ends[stream]):
                continue  # Came while we were reading; without an end a busy log would never be read to the end.
            try:
                event = decode_event(fields[_FIELD])
            except (ProtocolError, KeyError, TypeError):
                continue  # Only an administrator's hand could have put it there.
            yield streams[stream], entry_id, event
        if not follow and all(entry_order(cursors[stream]) >= entry_order(ends[stream]) for stream in streams):
            return


async def _ends(redis: Redis, streams: dict[bytes, Log]) -> dict[bytes, str]:
    commands: list[Command] = [("XREVRANGE", stream, "+", "-", "COUNT", 1) for stream in streams]
    ends: dict[bytes, str] = {}
    for stream, reply in zip(streams, await execute(redis, commands), strict=True):
        if isinstance(reply, BaseException):
            raise reply
        ends[stream] = text_of(reply[0][0]) if reply else "0"
    return ends


async def _page(redis: Redis, cursors: dict[bytes, str], block: int | None, most: int) -> list[tuple[str, bytes, Any]]:
    """The next entries of all streams that can be given in order: up to where the shortest full page ends."""
    wanted: Any = dict(cursors)
    reply: Any = await redis.xread(wanted, count=most, block=block)
    page = [(text_of(entry_id), stream, fields) for stream, entries in reply.items() for entry_id, fields in entries]
    limits = [entry_order(text_of(entries[-1][0])) for entries in reply.values() if len(entries) >= most]
    if limits:
        page = [entry for entry in page if entry_order(entry[0]) <= min(limits)]
    return sorted(page, key=lambda entry: entry_order(entry[0]))
