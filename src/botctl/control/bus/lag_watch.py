"""Looks how far the readers of the bus are, now and then, and says of whom events may be lost. Changes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from redis.asyncio import Redis

from botctl.bus.caretaking.grants import grant_user
from botctl.bus.client import AWAY
from botctl.bus.events import Log
from botctl.bus.reading.lag import Lag, Place, measure
from botctl.bus.topology import MAILBOX_GROUP, Topology
from botctl.bus.wire import Command, execute
from botctl.control.bus.grant_keeper import grant_of
from botctl.control.views import BusView, ReaderView
from botctl.fleet import Fleet
from botctl.observability.bus_metrics import BusSample, ReaderSample
from botctl.storage.grants import StoredGrant

LOOK_EVERY = 5.0
WARN_AT = 0.8
"""Part of the time that a log keeps events after which a reader that has not read them is told of."""

_CROWDED = 0.5
"""Part of the entries that a mailbox holds from which on it is told of."""

_TIMEOUT = 3.0


class BusWatch:
    """`fleet` and `grants` are asked at each look. `dropped`: entries that each reader has lost, by reader."""

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        fleet: Callable[[], Fleet | None],
        grants: Callable[[], Mapping[str, StoredGrant]],
        *,
        keep_seconds: float,
        mailbox_limit: int,
        dropped: Mapping[str, int],
    ) -> None:
        self.lags: list[Lag] = []
        """As last looked at."""
        self.lengths: dict[str, int] = {}
        """Entries of each log, and `dead` of the dead letters."""
        self.keep_seconds = keep_seconds
        self._redis = redis
        self._topology = topology
        self._fleet = fleet
        self._grants = grants
        self._mailbox_limit = mailbox_limit
        self._dropped = dropped
        self._at: float | None = None

    async def run(self) -> None:
        """Look until cancelled; Redis being away is told by others."""
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    await self.look()
            except AWAY:
                pass
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Look now. Raises what Redis raises."""
        lags = await measure(self._redis, self._places())
        keys = {log.value: self._topology.log(log) for log in Log} | {"dead": self._topology.dead_letters}
        asked: list[Command] = [("XLEN", key) for key in keys.values()]
        replies = await execute(self._redis, asked)
        self.lengths = {name: reply for name, reply in zip(keys, replies, strict=True) if isinstance(reply, int)}
        self.lags, self._at = lags, time.monotonic()

    def _places(self) -> list[Place]:
        fleet = self._fleet()
        places: list[Place] = []
        if fleet is not None:
            places += [
                Place(f"bot:{bot.name}", self._topology.mailbox(bot.bot_id), MAILBOX_GROUP) for bot in fleet.bots
            ]
            places += [Place(f"group:{name}", self._topology.group(name), MAILBOX_GROUP) for name in fleet.groups]
        for grant in map(grant_of, self._grants().values()):
            places += [
                Place(f"grant:{grant.name}", self._topology.log(log), grant.group, log.value) for log in grant.logs
            ]
        return places

    def view(self, *, everybody: bool) -> BusView:
        """As last looked at; with `everybody` also bots and groups that have read all there is."""
        lost = self._lost()
        readers = [
            ReaderView(
                reader=lag.reader,
                log=lag.log,
                unread=lag.unread if lag.known else None,
                pending=lag.pending if lag.known else None,
                seconds=lag.seconds if lag.known else None,
                dropped=lost.get(lag.reader, 0),
            )
            for lag in self.lags
            if everybody or lag.unread or lag.pending or lag.log or lag.reader in lost
        ]
        return BusView(
            age_s=None if self._at is None else round(time.monotonic() - self._at, 1),
            keep_s=self.keep_seconds,
            logs={log.value: self.lengths[log.value] for log in Log if log.value in self.lengths},
            dead_letters=self.lengths.get("dead"),
            readers=readers,
            warnings=self.warnings(),
        )

    def sample(self, forgotten: Mapping[str, int]) -> BusSample:
        """For the metrics."""
        return BusSample(
            readers=[
                ReaderSample(one.reader, one.log, one.unread, one.pending, one.seconds)
                for one in self.lags
                if one.known
            ],
            logs={log.value: self.lengths[log.value] for log in Log if log.value in self.lengths},
            dead_letters=self.lengths.get("dead"),
            dropped=self._lost(),
            forgotten=forgotten,
        )

    def warnings(self) -> list[str]:
        """Of whom events may soon be lost, or go only because there is room for them yet."""
        return lag_warnings(self.lags, self.keep_seconds, self._mailbox_limit)

    def _lost(self) -> dict[str, int]:
        """What each reader has lost, by the name it has here: bots are told by their id elsewhere."""
        fleet = self._fleet()
        names = {f"bot:{bot.bot_id}": f"bot:{bot.name}" for bot in fleet.bots} if fleet is not None else {}
        return {names.get(reader, reader): count for reader, count in self._dropped.items()}

    def of_grant(self, name: str) -> list[ReaderView]:
        """How far one program outside is, log by log."""
        return [one for one in self.view(everybody=True).readers if one.reader == f"grant:{name}"]

    def user(self, name: str) -> str:
        """The Redis user of a grant."""
        return grant_user(self._topology, name)


def lag_warnings(lags: Sequence[Lag], keep_seconds: float, mailbox_limit: int) -> list[str]:
    """In an operator's words. Pure."""
    found = []
    for lag in lags:
        waiting = lag.unread + lag.pending
        if lag.log and lag.seconds > WARN_AT * keep_seconds:
            fate = "they are kept only as long as there is room" if lag.seconds > keep_seconds else (
                f"events are kept for {_days(keep_seconds)}, then only as long as there is room"
            )  # fmt: skip
            found.append(
                f"{lag.reader} has not read {waiting} events of the log {lag.log} for {_days(lag.seconds)}; {fate}"
            )
        elif not lag.log and waiting > _CROWDED * mailbox_limit:
            found.append(f"{lag.reader} has {waiting} events in its mailbox; beyond {mailbox_limit} the oldest go")
    return found


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds / 3600:.1f} hours"
