"""Relays what removed bots have left in their outboxes: no process of theirs will.

A bot that ends in order relays what it can; the rest was committed while Redis was away, or shortly before it was
killed, or has become due again since, after Redis had lost it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.client import AWAY, reason
from botctl.bus.relay import Relay
from botctl.bus.topology import Topology
from botctl.control.bus.keeper import BusKeeper
from botctl.control.bus.stored_outbox import StoredOutbox
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage.outbox import left_behind
from botctl.storage.sealing import Sealing

_log = structlog.get_logger("botctl.control.bus.orphans")

LOOK_EVERY = 10.0
"""Seconds. An event of a removed bot has waited for longer."""

_AT_ONCE = 30.0
"""Seconds for which one outbox is worked on, before the next one has its turn."""


class OrphanRelay:
    """`spared` gives the bots whose outboxes are left alone: they are wanted, still have a process, or were shut away;
    None as long as that isn't known.

    `bots` are those whose out streams are to be routed although the fleet has them no more. `sealing` opens rows.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        redis: Redis,
        bus: BusKeeper,
        topology: Topology,
        sealing: Callable[[int], Sealing],
        spared: Callable[[], Awaitable[Collection[int] | None]],
        *,
        look_every: float = LOOK_EVERY,
    ) -> None:
        self.bots: frozenset[int] = frozenset()
        self._engine = engine
        self._redis = redis
        self._bus = bus
        self._topology = topology
        self._sealing = sealing
        self._spared = spared
        self._look_every = look_every
        self._outboxes: dict[int, StoredOutbox] = {}

    async def run(self) -> None:
        """Look until cancelled; database and Redis being away are waited out."""
        while True:
            try:
                await self.look()
            except DATABASE_TROUBLE as error:
                _log.warning("removed bots' events can't be looked for", reason=database_reason(error))
            except AWAY as error:
                _log.warning("removed bots' events wait", reason=reason(error))
            await asyncio.sleep(self._look_every)

    async def look(self) -> None:
        """One round. Raises what database and Redis raise."""
        spared = await self._spared()
        if spared is None or not self._bus.sound:
            return
        async with self._engine.connect() as connection:
            waiting = set(await left_behind(connection)) - set(spared)
        for bot_id in sorted(waiting):
            if not await self._bus.open_out(bot_id):
                return
            self.bots |= {bot_id}
            await self._relay(bot_id)
        for bot_id in self.bots - waiting:
            if bot_id not in spared:
                await self._bus.drop(bot_id)  # leaves the stream while there is something in it
            if bot_id in spared or not await self._redis.exists(self._topology.out(bot_id)):
                self.bots -= {bot_id}
                self._outboxes.pop(bot_id, None)

    async def _relay(self, bot_id: int) -> None:
        outbox = self._outboxes.setdefault(bot_id, StoredOutbox(self._engine, bot_id, self._sealing(bot_id)))
        relay = Relay(self._redis, self._topology, bot_id, outbox, gate=self._bus.relay_gate)
        done = await relay.drain(_AT_ONCE)
        if relay.relayed:
            _log.info("events of a removed bot relayed", bot_id=bot_id, events=relay.relayed, all=done)
