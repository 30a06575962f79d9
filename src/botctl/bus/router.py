"""Moves events from all out streams to the logs and mailboxes, in the control process.

For each batch one MULTI writes the events and acknowledges what they came from: an event is routed once, also when the
router dies at any moment, and when Redis is out of memory nothing is acknowledged. What was relayed twice is recognised
by its id; the tail of the logs is the memory of a new router.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.admin import is_busy_group
from botctl.bus.allowance import Allowance
from botctl.bus.backoff import Backoff
from botctl.bus.batch import Batch, Batcher, Rejected
from botctl.bus.client import AWAY, reason
from botctl.bus.doorbell import Doorbell
from botctl.bus.events import FLEET, Log, decode_event
from botctl.bus.fanout import Fanout
from botctl.bus.janitor import Janitor, tampered
from botctl.bus.seen import Seen
from botctl.bus.topology import FIELD, ROUTER_GROUP, Topology
from botctl.bus.wire import execute, transact
from botctl.errors import ProtocolError

_log = structlog.get_logger("botctl.bus.router")

_CONSUMER = "router"  # One name for every incarnation, so that a new one finds what the last one has left unfinished.
_COUNT = 100
_STREAMS_A_ROUND = 16
_TAIL = 5_000
_TIDY_EVERY = 10.0
_RELIEVE_EVERY = 1.0
_BETWEEN_RINGS = 0.02
_SWEEP_WITH_DOORBELL = 2.0


@dataclass
class RouterStats:
    """What the router has done since the process began. `mailbox_depths`: entries not acknowledged, by bot."""

    healthy: bool = True
    reason: str = ""
    routed: int = 0
    delivered: int = 0
    rejected: int = 0
    duplicates: int = 0
    dropped: int = 0
    replaced_streams: int = 0
    doorbell: bool = False


class Router:
    """`subscribers` gives the fleet as it is now: every bot with its patterns, none for a bot that doesn't subscribe.

    `on_rejected` is told of each dead letter. `sweep_every`: seconds between looks at all streams while the doorbell
    doesn't work. `redis` needs all rights on the namespace.
    """

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        subscribers: Callable[[], Mapping[int, tuple[str, ...]]],
        on_rejected: Callable[[Rejected], None] | None = None,
        *,
        sweep_every: float = 0.25,
        janitor: Janitor | None = None,
        allowance: Allowance | None = None,
    ) -> None:
        self.stats = RouterStats()
        self.janitor = janitor or Janitor(redis, topology)
        self._redis = redis
        self._topology = topology
        self._subscribers = subscribers
        self._on_rejected = on_rejected
        self._sweep_every = sweep_every
        self._fanout = Fanout()
        self._seen = Seen()
        self._batcher = Batcher(topology, self._fanout, self._seen)
        self._doorbell = Doorbell(redis, topology)
        self._caught_up: set[int] = set()
        """Bots without entries that were read and not finished."""
        self._known: set[int] = {0}
        """Bots that have an out stream, in the fleet or not any more."""
        self._allowance = allowance or Allowance(time.monotonic)
        self._forgetful = False
        self._tampered = False
        """Whether an out stream was seen that the janitor should replace without delay."""
        self._warned: dict[int, float] = {}

    def forget(self) -> None:
        """The server may have lost events: only what its logs still have counts as routed."""
        self._forgetful = True

    async def run(self) -> None:
        """Route until cancelled. Redis being away is waited out."""
        backoff = Backoff()
        listening = asyncio.create_task(self._doorbell.run(), name="bus doorbell")
        try:
            while True:
                try:
                    await self._route(backoff)
                except AWAY as error:
                    await self._wait_out(error, reason(error), backoff)
                except Exception as error:
                    _log.exception("the router stumbles")
                    await self._wait_out(error, f"{type(error).__name__} in the router", backoff)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _route(self, backoff: Backoff) -> None:
        clock = asyncio.get_running_loop().time
        await self._open()
        sweep_at = tidy_at = relieve_at = clock()
        while True:
            self.stats.doorbell = self._doorbell.works
            if self._forgetful:
                await self._open()
            if clock() >= relieve_at:
                await self.janitor.relieve(self._bots())
                self.stats.dropped = self.janitor.dropped
                relieve_at = clock() + _RELIEVE_EVERY
            if clock() >= sweep_at:
                self._sweep()
                sweep_at = clock() + (_SWEEP_WITH_DOORBELL if self._doorbell.works else self._sweep_every)
            if not self._doorbell.ready:
                await self._wait(sweep_at - clock())
                continue
            chosen = self._take()
            if not chosen:
                await asyncio.sleep(_BETWEEN_RINGS)  # Bots that have to wait may ring as often as they like.
                continue
            self._fanout.update(self._subscribers())
            await self._round(chosen)
            self._recovered(backoff)
            if clock() >= tidy_at or self._tampered:
                self._tampered = False
                await self.janitor.tidy(self._bots(), self._doorbell.ring)
                self.stats.dropped, self.stats.replaced_streams = self.janitor.dropped, self.janitor.replaced
                tidy_at = clock() + _TIDY_EVERY

    async def _open(self) -> None:
        """After a start or an error: what is still pending is read again, what was routed is remembered."""
        self._caught_up.clear()
        async for key in self._redis.scan_iter(match=self._topology.out_pattern, count=1000):
            bot_id = self._topology.bot_of_out(key.decode())
            if bot_id is not None:
                self._known.add(bot_id)
        if self._forgetful:
            self._forgetful = False
            self._seen.forget()
        for log in Log:
            tail = await self._redis.xrevrange(self._topology.log(log), count=_TAIL)
            self._seen.add(_key(fields) for _, fields in reversed(tail or []))
        self._doorbell.rung.set()

    def _bots(self) -> list[int]:
        self._known |= self._subscribers().keys()
        return sorted(self._known)

    def _sweep(self) -> None:
        for bot_id in self._bots():
            self._doorbell.ring(bot_id)

    async def _wait(self, seconds: float) -> None:
        self._doorbell.rung.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._doorbell.rung.wait()
        except TimeoutError:
            return

    def _take(self) -> list[int]:
        """The streams that have waited longest: a flooding bot waits its turn behind the others.

        One that has used up its allowance waits for the next sweep.
        """
        ready = self._doorbell.ready
        for bot_id in [bot for bot in ready if bot and self._allowance.exhausted(bot)]:
            del ready[bot_id]
            self._complain(bot_id, "bot publishes more than it may; its events have to wait")
        chosen = [bot for bot, _ in zip(ready, range(_STREAMS_A_ROUND), strict=False)]
        for bot_id in chosen:
            del ready[bot_id]
        return chosen

    async def _round(self, bots: list[int]) -> None:
        """Read and route up to 100 entries of each stream. After any error `_open` makes all of it be read again."""
        replies = await execute(
            self._redis,
            [
                ("XREADGROUP", "GROUP", ROUTER_GROUP, _CONSUMER, "COUNT", _COUNT, "STREAMS",
                 self._topology.out(bot), ">" if bot in self._caught_up else "0")
                for bot in bots
            ],
        )  # fmt: skip
        batch = Batch()
        for bot_id, reply in zip(bots, replies, strict=True):
            if isinstance(reply, BaseException):
                await self._repair(bot_id, reply)
                continue
            entries = _entries(reply)
            if bot_id not in self._caught_up:
                if not entries:
                    self._caught_up.add(bot_id)
                self._doorbell.ring(bot_id)
            elif len(entries) >= _COUNT:
                self._doorbell.ring(bot_id)
            if entries and tampered(entries[-1][0], int(time.time() * 1000)):
                self._tampered = True
            self._allowance.spend(bot_id, len(entries), sum(_size(fields) for _, fields in entries))
            for entry_id, fields in entries:
                self._batcher.add(batch, bot_id, entry_id, fields)
                if batch.full:
                    await self._commit(batch)
                    batch = Batch()
        await self._commit(batch)

    async def _commit(self, batch: Batch) -> None:
        if not batch.finished:
            return
        replies: list[Any] = []
        for commands in self._batcher.seal(batch):
            replies += await transact(self._redis, commands)
        self._seen.add(batch.routed)
        self.stats.routed += len(batch.routed)
        self.stats.delivered += batch.delivered
        self.stats.duplicates += batch.duplicates
        self.stats.rejected += len(batch.rejected)
        await self._bury_failed(batch, replies)
        for rejected in batch.rejected:
            self._tell(rejected)

    async def _bury_failed(self, batch: Batch, replies: list[Any]) -> None:
        """A write may fail though the MULTI was accepted, when a log or mailbox key is no stream."""
        for (bot_id, entry_id, body), reply in zip(batch.writes, replies, strict=False):
            if isinstance(reply, BaseException):
                batch.rejected.append(Rejected(bot_id, entry_id, f"it couldn't be written: {reply}", body))
                await execute(self._redis, [self._batcher.dead_letter(bot_id, entry_id, str(reply), body)])

    async def _repair(self, bot_id: int, error: BaseException) -> None:
        """An out stream without its group: the server lost it, or the bot is new."""
        if "WRONGTYPE" in str(error):
            self._complain(bot_id, "the key of an out stream holds something else")
            return
        if "NOGROUP" not in str(error):
            raise error
        if bot_id and bot_id not in self._subscribers():
            self._known.discard(bot_id)  # Dropped together with its bot.
            return
        stream = self._topology.out(bot_id)
        for reply in await execute(self._redis, [("XGROUP", "CREATE", stream, ROUTER_GROUP, "0", "MKSTREAM")]):
            if isinstance(reply, BaseException) and not is_busy_group(reply):
                raise reply
        self._doorbell.ring(bot_id)
        if bot_id in self._caught_up:
            self._caught_up.discard(bot_id)
            _log.warning("an out stream or its group was missing and has been made", bot_id=bot_id, stream=stream)
        else:
            _log.info("an out stream has been made", bot_id=bot_id, stream=stream)

    def _tell(self, rejected: Rejected) -> None:
        self._complain(rejected.bot_id, f"event refused, see the dead letters: {rejected.reason}")
        if self._on_rejected is not None:
            self._on_rejected(rejected)

    def _complain(self, bot_id: int, what: str) -> None:
        """Warn, at most once a minute for each bot: a flooding bot must not flood the log."""
        now = asyncio.get_running_loop().time()
        if now - self._warned.get(bot_id, -1e9) >= 60:
            self._warned[bot_id] = now
            _log.warning(what, bot_id=bot_id)

    async def _wait_out(self, error: BaseException, why: str, backoff: Backoff) -> None:
        if self.stats.healthy or why != self.stats.reason:
            _log.warning("events can't be routed", reason=why, error=type(error).__name__, detail=str(error)[:200])
        self.stats.healthy, self.stats.reason = False, why
        await asyncio.sleep(backoff.next())

    def _recovered(self, backoff: Backoff) -> None:
        if not self.stats.healthy:
            _log.info("events are routed again")
        self.stats.healthy, self.stats.reason = True, ""
        backoff.reset()


def _entries(reply: Any) -> list[tuple[bytes, Any]]:
    """The entries of an XREADGROUP of one stream: a map over RESP3, pairs over RESP2, nothing if there are none."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return next(iter(reply.values())) or []
    return reply[0][1] or []


def _size(fields: Any) -> int:
    return sum(map(len, fields)) if fields else 0


def _key(fields: Any) -> tuple[int, str]:
    """Bot and id of an event in a log."""
    try:
        event = decode_event(fields[FIELD.encode()])
        return (0 if event.source == FLEET else int(event.source.removeprefix("bot:")), event.id)
    except (ProtocolError, KeyError, TypeError, ValueError):
        return (-1, "")
