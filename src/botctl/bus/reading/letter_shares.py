"""Keeps the dead letters within bounds, so that a bot whose events are refused without end pushes out its own only.

Knows by stream what was written, and deletes the oldest of the stream that has most. Of those that were deleted
otherwise it learns nothing: to delete one twice does no harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from botctl.bus.stream_reply import size_of
from botctl.bus.topology import Topology
from botctl.bus.wire import Command, execute

ROOM = 8 * 1024 * 1024
"""Bytes of all dead letters, about: where Redis has 256 MB, two thirds of their share (`caretaking/room.py`)."""

OVERHEAD = 4 * 1024
"""Bytes counted for a letter beside its event's: of small ones 2,000 are kept."""

_PAGE = 100


class LetterShares:
    """By stream, the letters about its entries. Pure."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._used = 0
        self._streams: dict[str, deque[tuple[bytes, int]]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, stream: str, letter_id: bytes, size: int) -> list[bytes]:
        """One was written, with so many bytes of an event; the ones that have to go for it."""
        gone: list[bytes] = []
        self._count(stream, OVERHEAD + size)
        self._streams.setdefault(stream, deque()).append((letter_id, OVERHEAD + size))
        while self._used > self._room:
            largest = max(self._sizes, key=lambda one: self._sizes[one])
            oldest, cost = self._streams[largest].popleft()
            self._count(largest, -cost)
            gone.append(oldest)
        return gone

    def _count(self, stream: str, cost: int) -> None:
        self._used += cost
        self._sizes[stream] = self._sizes.get(stream, 0) + cost
        if not self._sizes[stream]:
            del self._sizes[stream], self._streams[stream]


class LetterKeeper:
    """Of one process that writes dead letters. Raises what Redis raises. `redis` needs all rights on the namespace."""

    def __init__(self, redis: Redis, topology: Topology, shares: LetterShares | None = None) -> None:
        self._redis = redis
        self._key = topology.dead_letters
        self._shares = shares or LetterShares()
        self._known = False

    async def open(self) -> None:
        """Learn once what there is."""
        after = b"-"
        while not self._known:
            page: Any = await self._redis.xrange(self._key, min=after, count=_PAGE) or []
            gone: list[bytes] = []
            for letter_id, fields in page:
                gone += self._shares.add(fields.get(b"stream", b"").decode(), letter_id, size_of([*fields.values()]))
                after = b"(" + letter_id
            await self._delete(gone)
            self._known = len(page) < _PAGE

    async def wrote(self, letters: Iterable[tuple[Command, Any]]) -> None:
        """Commands of `dead_letter_command` with their replies."""
        gone: list[bytes] = []
        for command, reply in letters:
            if isinstance(reply, bytes):
                words = dict(zip(command[6::2], command[7::2], strict=True))
                size = sum(len(word) for word in words.values() if not isinstance(word, int))
                gone += self._shares.add(str(words["stream"]), reply, size)
        await self._delete(gone)

    async def _delete(self, letters: list[bytes]) -> None:
        if letters:
            await execute(self._redis, [("XDEL", self._key, *letters)])
