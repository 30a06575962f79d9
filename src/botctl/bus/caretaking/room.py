"""How much of the server's memory the bus may take: sizes its streams and cuts those that are over their share.

The server evicts nothing, so a full one refuses every event of every bot. Bounds by age or number don't prevent that:
one event may have 64 kB, and what a bot itself appends has no limit at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from botctl.bus.events import Log
from botctl.bus.topology import Topology
from botctl.bus.wire import Command, execute

UNLIMITED = 1 << 30
"""Bytes counted on where the server has no maxmemory."""

LOG_SHARE = 0.10
"""Of the memory, for each of the three logs."""

MAILBOXES_SHARE = 0.20
OUTS_SHARE = 0.20
DEAD_LETTERS_SHARE = 0.05

SCARCE = 0.85
"""Part of maxmemory from which on something must be done at once."""

_WORTH_IT = 0.25
"""Part of the memory the bus must hold for a further cut to be of use: else others fill the server."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Entries taken off the old end of a stream. `bot_id` None: a log, the dead letters, or a group's."""

    stream: str
    entries: int
    bot_id: int | None = None
    unrouted: bool = False


class Room:
    """Raises what Redis raises. `memory`: bytes to count on; None asks the server."""

    def __init__(self, redis: Redis, topology: Topology, *, memory: int | None = None) -> None:
        self._redis = redis
        self._topology = topology
        self._memory = memory

    async def scarce(self) -> bool:
        """Whether the server is nearly full."""
        used, most = await self._usage()
        return most > 0 and used >= SCARCE * most

    async def keep(self, bots: Collection[int], groups: Collection[str] = ()) -> list[Cut]:
        """Bring every stream down to its share; to less and less while the server is full of them."""
        cuts: list[Cut] = []
        for part in (1.0, 0.5, 0.25):
            used, most = await self._usage()
            scarce = most > 0 and used >= SCARCE * most
            if part < 1.0 and not scarce:
                break
            memory = self._memory or most or UNLIMITED
            sizes = await self._sizes(bots, groups)
            if part < 1.0 and sum(sizes.values()) < _WORTH_IT * memory:
                break
            cuts += await self._cut(self._over(sizes, memory * part, bots, groups))
        return cuts

    async def _usage(self) -> tuple[int, int]:
        info: Any = await self._redis.info("memory")
        return int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))

    async def _sizes(self, bots: Collection[int], groups: Collection[str]) -> dict[str, int]:
        streams = [self._topology.log(log) for log in Log]
        streams.append(self._topology.dead_letters)
        streams += map(self._topology.group, groups)
        for bot_id in bots:
            streams += [self._topology.out(bot_id), self._topology.mailbox(bot_id)]
        replies = await execute(self._redis, [("MEMORY", "USAGE", stream, "SAMPLES", 0) for stream in streams])
        return {stream: size for stream, size in zip(streams, replies, strict=True) if isinstance(size, int)}

    def _over(
        self, sizes: Mapping[str, int], memory: float, bots: Collection[int], groups: Collection[str]
    ) -> list[tuple[Cut, int, float]]:
        """What is to be cut, its size, and what may be left."""
        over: list[tuple[Cut, int, float]] = []
        shares = dict.fromkeys((self._topology.log(log) for log in Log), LOG_SHARE)
        shares[self._topology.dead_letters] = DEAD_LETTERS_SHARE
        for stream, share in shares.items():
            if (size := sizes.get(stream, 0)) > share * memory:
                over.append((Cut(stream, 0), size, share * memory))
        outs = [Cut(self._topology.out(bot_id), 0, bot_id, True) for bot_id in bots]
        inlets = [Cut(self._topology.mailbox(bot_id), 0, bot_id) for bot_id in bots]
        inlets += [Cut(self._topology.group(name), 0) for name in groups]
        for cuts, share in ((outs, OUTS_SHARE), (inlets, MAILBOXES_SHARE)):
            held = [sizes.get(cut.stream, 0) for cut in cuts]
            level = fair_level(held, share * memory)
            over += [(cut, size, level) for cut, size in zip(cuts, held, strict=True) if size > level]
        return over

    async def _cut(self, over: list[tuple[Cut, int, float]]) -> list[Cut]:
        lengths = await execute(self._redis, [("XLEN", cut.stream) for cut, _, _ in over])
        trims: list[Command] = [
            ("XTRIM", cut.stream, "MAXLEN", "=", int(length * left / size) if isinstance(length, int) else 0)
            for (cut, size, left), length in zip(over, lengths, strict=True)
        ]
        replies = await execute(self._redis, trims)
        return [
            Cut(cut.stream, reply, cut.bot_id, cut.unrouted)
            for (cut, _, _), reply in zip(over, replies, strict=True)
            if isinstance(reply, int) and reply
        ]


def fair_level(sizes: Collection[float], budget: float) -> float:
    """The size that all must be cut to so that together they keep to the budget; those below it are left alone."""
    left = budget
    for place, size in enumerate(sorted(sizes)):
        share = left / (len(sizes) - place)
        if size > share:
            return share
        left -= size
    return float("inf")
