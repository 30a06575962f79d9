"""Whether a Redis server is the one we know, with the data we know: by a marker and a beat among those data.

The beat says until when everything that was relayed is among them, and in which run of the server. Data that go back
(an old dump, a replica that lagged, a lost tail of the log) take it back with them; a server that is empty has neither.
Both are set only after what may be lost is due again, so that whoever comes after a crash finds the same loss.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError, WatchError

from botctl.bus.topology import Topology
from botctl.bus.wire import Command, Line, execute, line

LATEST = 5.0
"""Seconds before a beat that count as not known too: clocks of two servers, and a commit that took its time."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A server as it is: its run id, the marker (empty: there is none), the beat's time and run (0 and empty: none)."""

    run: str
    marker: str = ""
    beat: float = 0.0
    beat_run: str = ""

    @property
    def identity(self) -> str:
        """Changes whenever the server may have lost users or data."""
        return f"{self.run}:{self.marker or '-'}"


@dataclass(frozen=True, slots=True)
class Last:
    """What was seen last: `at` on the monotonic clock; `beat` is what was written then, by the clock on the wall."""

    sight: Sight
    at: float
    beat: float


@dataclass(frozen=True, slots=True)
class Loss:
    """What the server may have lost: of all that was relayed within so many `seconds`.

    `empty`: it has nothing any more; then `seconds` are those since it was last seen with its data, None when nobody
    has seen it.
    """

    seconds: float | None
    empty: bool = False


def loss(sight: Sight, last: Last | None, wall: float, monotonic: float) -> Loss | None:
    """What is lost, if anything. Pure; the two times are now."""
    if not sight.marker or (last is not None and last.sight.marker != sight.marker):
        # The longer of the two: one clock may have been set, the other stands still while the machine sleeps.
        away = None if last is None else max(monotonic - last.at, wall - last.beat)
        return Loss(away, empty=True)
    if not sight.beat:  # a daemon of before has made the marker
        if last is None or last.sight.run == sight.run:
            return None
        return Loss(monotonic - last.at + LATEST)
    gone_back = last is not None and sight.beat < last.beat
    if sight.beat_run == sight.run and not gone_back:
        return None
    since = wall - sight.beat
    if last is not None:
        since = max(since, monotonic - last.at + last.beat - sight.beat)
    # A beat of the future: the clock was set back, and nobody knows by how much.
    return Loss(since + LATEST) if since >= 0 else Loss(None)


class Look:
    """A look at a server, and what is written there after it: to this one, with these data, or not at all."""

    def __init__(self, held: Line, topology: Topology, sight: Sight, version: dict[str, object]) -> None:
        self.sight = sight
        self.info = version
        self._line = held
        self._topology = topology

    async def beat(self, now: float) -> float:
        """What was relayed until `now`, seconds since the epoch, is among the data. Returns the beat that stands there.

        A server that can't write keeps the one it has. Raises WatchError when the data are others by now.
        """
        try:
            await self._write([("SET", self._topology.beat, f"{now:.6f} {self.sight.run}")])
        except ResponseError:
            return self.sight.beat
        return float(f"{now:.6f}")

    async def begin(self) -> None:
        """What was lost is made again from here on."""
        making = self._topology.making
        for reply in await self._line.execute([("UNWATCH",), ("SET", making, secrets.token_hex(8)), ("WATCH", making)]):
            if isinstance(reply, BaseException):
                raise reply

    async def know(self, now: float) -> Sight:
        """All has been made, and nothing was lost since `begin`: this server is known. Raises WatchError else."""
        topology, run = self._topology, self.sight.run
        marker = self.sight.marker or secrets.token_hex(8)
        beat = f"{now:.6f} {run}"
        await self._write([("MSET", topology.marker, marker, topology.beat, beat), ("DEL", topology.making)])
        return Sight(run, marker, float(f"{now:.6f}"), run)

    async def _write(self, commands: list[Command]) -> None:
        replies = await self._line.execute([("MULTI",), *commands, ("EXEC",)])
        for reply in (*replies, *(replies[-1] or () if isinstance(replies[-1], list) else ())):
            if isinstance(reply, BaseException):
                raise reply
        if replies[-1] is None:
            raise WatchError("the server's data were changed meanwhile")


@asynccontextmanager
async def look(redis: Redis, topology: Topology) -> AsyncIterator[Look]:
    """Look at the server. Raises what Redis raises while it is away."""
    async with line(redis) as held:
        keys = (topology.marker, topology.beat)
        replies = await held.execute([("WATCH", *keys), ("INFO", "server"), ("MGET", *keys)])
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        info = _info(replies[1])
        try:
            yield Look(held, topology, _sight(str(info["run_id"]), *replies[2]), info)
        finally:
            await held.forget_watches()


async def identity(redis: Redis | Line, topology: Topology) -> str:
    """`Sight.identity` of the server at the other end."""
    info, marker = await execute(redis, [("INFO", "server"), ("GET", topology.marker)])
    for reply in (info, marker):
        if isinstance(reply, BaseException):
            raise reply
    return Sight(str(_info(info)["run_id"]), _text(marker)).identity


def _sight(run: str, marker: Any, beat: Any) -> Sight:
    at, _, beat_run = _text(beat).partition(" ")
    try:
        known = float(at or 0.0)
    except ValueError:
        known = 0.0
    return Sight(run, _text(marker), known if math.isfinite(known) else 0.0, beat_run)


def _info(reply: Any) -> dict[str, object]:
    lines = (one.partition(":") for one in _text(reply).splitlines())
    return {name: value for name, separator, value in lines if separator}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""
