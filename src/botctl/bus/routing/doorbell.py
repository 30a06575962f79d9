"""Tells the router which out streams have something new, by Redis's keyspace notifications.

A hint, not a promise: notifications get lost with the connection, so the router also sweeps. Where the server doesn't
allow CONFIG and notifications aren't on, `works` stays False and the sweep does it all.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import ResponseError

from botctl.bus.backoff import Backoff
from botctl.bus.client import AWAY
from botctl.bus.stream_reply import text_of
from botctl.bus.topology import Receiver, Topology

_log = structlog.get_logger("botctl.bus.routing.doorbell")


class Doorbell:
    """`ready` are the bots whose out streams have rung since they were taken; `rung` is set when there is one.

    `on_consumer` is called with the bot, or the group, in whose mailbox a consumer was made.
    """

    def __init__(self, redis: Redis, topology: Topology, on_consumer: Callable[[Receiver], None] | None = None) -> None:
        self.works = False
        self.ready: dict[int, None] = {}
        self.added: Counter[int] = Counter()
        """Entries added to out streams, by bot, since somebody has looked and taken them."""
        self.rung = asyncio.Event()
        self._redis = redis
        self._topology = topology
        options = dict(redis.connection_pool.connection_kwargs)
        self._on_consumer = on_consumer
        database = int(options.get("db") or 0)
        self._prefix = f"__keyspace@{database}__:"
        self._consumers = f"__keyevent@{database}__:xgroup-createconsumer"
        # Over RESP2 messages come as plain replies; over RESP3 as push messages that redis-py handles slowly.
        self._pool: Any = ConnectionPool(redis.connection_pool.connection_class, **(options | {"protocol": 2}))
        self._bots: dict[bytes, int | None] = {}

    def ring(self, bot_id: int) -> None:
        """Somebody else knows that this stream is to be read."""
        self.ready[bot_id] = None
        self.rung.set()

    async def wait(self, seconds: float) -> None:
        """Until somebody rings, or for so long."""
        self.rung.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.rung.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Listen until cancelled."""
        backoff = Backoff()
        try:
            while True:
                try:
                    if not await self._listen(backoff):
                        return
                except AWAY:
                    self.works = False
                    await asyncio.sleep(backoff.next())
        finally:
            self.works = False
            await self._pool.disconnect()

    async def _listen(self, backoff: Backoff) -> bool:
        if not await self._switch_on():
            _log.warning("Redis doesn't allow keyspace notifications to be switched on; events take longer")
            return False
        connection = await self._pool.get_connection()
        try:
            await connection.send_command("PSUBSCRIBE", self._prefix + self._topology.out_pattern, self._consumers)
            await connection.read_response()
            await connection.read_response()
            self.works = True
            backoff.reset()
            while True:
                message = await connection.read_response(timeout=math.inf)
                if message[3] == b"xadd":
                    bot_id = self._bot_of(message[2])
                    if bot_id is not None:
                        self.added[bot_id] += 1
                        self.ready[bot_id] = None
                        self.rung.set()
                elif message[2] == self._consumers.encode() and self._on_consumer is not None:
                    key = message[3].decode("utf-8", "replace")
                    owner = self._topology.receiver_of(key)
                    if owner is not None:
                        self._on_consumer(owner)
        finally:
            self.works = False
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    def _bot_of(self, channel: bytes) -> int | None:
        if channel not in self._bots:
            if len(self._bots) > 10_000:
                self._bots.clear()
            self._bots[channel] = self._topology.bot_of_out(channel.decode().removeprefix(self._prefix))
        return self._bots[channel]

    async def _switch_on(self) -> bool:
        """Add to the server's own choice of notifications what is needed: K, E (by key, by event), t (of streams)."""
        try:
            reply = await self._redis.config_get("notify-keyspace-events")
            flags = text_of(next(iter(reply.values()), ""))
            missing = "".join(flag for flag in "KE" if flag not in flags)
            missing += "" if "t" in flags or "A" in flags else "t"
            if missing:
                await self._redis.config_set("notify-keyspace-events", flags + missing)
        except ResponseError:
            return False
        return True
