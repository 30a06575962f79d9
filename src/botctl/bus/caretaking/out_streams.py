"""Looks after bots' out streams for the janitor: finds out what was cut off unread, replaces one made unusable.

A bot may append to its own with any id and any limit; one of the greatest possible id takes no entry any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import structlog
from redis.asyncio import Redis
from redis.exceptions import WatchError

from botctl.bus.caretaking.losses import Losses
from botctl.bus.events import Log
from botctl.bus.reading.mailbox_groups import field_of
from botctl.bus.topology import ROUTER_GROUP, Topology
from botctl.bus.wire import Command, execute

_log = structlog.get_logger("botctl.bus.caretaking.out_streams")

_GROUPS = ("XINFO", "GROUPS")
_FUTURE_MS = 86_400_000
"""An out stream whose last id lies further in the future than this was tampered with."""


class OutStreams:
    """Raises what Redis raises. `redis` needs all rights on the namespace."""

    def __init__(self, redis: Redis, topology: Topology) -> None:
        self.replaced = 0
        """Begun again so far."""
        self.losses = Losses()
        self._redis = redis
        self._topology = topology
        self._shown = 0
        """What the server's clock has shown, as far as logs tell: no bot can write those."""

    def suspicious(self, last_id: bytes) -> bool:
        """Whether a stream of this last id is to be checked without delay."""
        return tampered(last_id, max(int(time.time() * 1000), self._shown))

    async def check(self, bots: Collection[int], ring: Callable[[int], None]) -> None:
        """Replace unusable out streams among these, and find out what was cut off them unread."""
        streams = {bot: self._topology.out(bot) for bot in bots}
        lengths = await execute(self._redis, [("XLEN", stream) for stream in streams.values()])
        # Only of empty ones: the answer holds the first and the last entry, of any size.
        empty = [bot for bot, length in zip(bots, lengths, strict=True) if length == 0]
        for bot in set(bots).difference(empty):
            ring(bot)
        asked: list[Command] = [(*what, streams[bot]) for bot in empty for what in (("XINFO", "STREAM"), _GROUPS)]
        replies = iter(await execute(self._redis, asked))
        milliseconds, now = await server_time(self._redis), time.monotonic()
        for bot, info, groups in zip(empty, replies, replies, strict=False):
            if isinstance(info, BaseException) or isinstance(groups, BaseException):
                ring(bot)  # No such key: the router makes it anew when it finds no group.
                continue
            added, read = field_of(info, "entries-added"), [field_of(group, "entries-read") for group in groups]
            if len(read) == 1 and isinstance(added, int) and isinstance(read[0], int) and not field_of(info, "length"):
                self.losses.compare(bot, added, read[0], now)
            if await self._is_tampered(field_of(info, "last-generated-id"), milliseconds):
                await self._replace(bot, streams[bot], ring)

    async def _is_tampered(self, last_id: bytes, now: int) -> bool:
        """A clock that was ahead and has gone back makes ids in the future, too: then the logs have such as well."""
        if not tampered(last_id, max(now, self._shown)):
            return False
        logs = await execute(self._redis, [("XINFO", "STREAM", self._topology.log(log)) for log in Log])
        ids = [field_of(info, "last-generated-id") for info in logs if not isinstance(info, BaseException)]
        self._shown = max((_milliseconds(one) for one in ids), default=0)
        return tampered(last_id, max(now, self._shown))

    async def _replace(self, bot: int, stream: str, ring: Callable[[int], None]) -> None:
        """Begin the stream again. WATCH makes sure that nothing is in it at that moment."""
        async with self._redis.pipeline(transaction=True) as pipe:
            try:
                await pipe.watch(stream)
                if await pipe.xlen(stream):
                    ring(bot)
                    return
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.delete(stream)
                pipe.xgroup_create(stream, ROUTER_GROUP, "0", mkstream=True, entries_read=0)
                await pipe.execute()
            except WatchError:
                ring(bot)
                return
        self.replaced += 1
        self.losses.begun_again(bot)
        self.losses.missing(bot, 0)  # perhaps: who makes a stream unusable may have emptied it in the same breath
        _log.warning("out stream had an id in the far future and was begun again", bot_id=bot, stream=stream)


async def server_time(redis: Redis) -> int:
    """Milliseconds since the epoch."""
    seconds, micros = await redis.time()
    return int(seconds) * 1000 + int(micros) // 1000


def tampered(last_id: bytes, now: int) -> bool:
    """Whether an id lies so far in the future that no clock has made it. `now` in milliseconds since the epoch."""
    return _milliseconds(last_id) > now + _FUTURE_MS


def _milliseconds(entry_id: bytes) -> int:
    return int(entry_id.split(b"-")[0])
