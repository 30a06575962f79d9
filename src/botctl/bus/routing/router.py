"""Moves events from all out streams to the logs and mailboxes, in the control process.

For each batch one MULTI writes the events and acknowledges what they came from: an event is routed once, also when the
router dies at any moment, and when Redis is out of memory nothing is acknowledged. What was relayed twice is recognised
by its id; the tail of the logs is the memory of a new router.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.backoff import Backoff
from botctl.bus.caretaking.admin import is_busy_group
from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grant_guard import GrantGuard
from botctl.bus.caretaking.identity import identity
from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.caretaking.retention import KEEP_SECONDS
from botctl.bus.caretaking.sentry import Offence, Sentry
from botctl.bus.client import AWAY, reason
from botctl.bus.events import Log
from botctl.bus.reading.mailbox_groups import MOST_CONSUMERS
from botctl.bus.routing.allowance import Allowance
from botctl.bus.routing.batch import Batch, Batcher, Rejected
from botctl.bus.routing.doorbell import Doorbell
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.portions import Portions
from botctl.bus.routing.pressure import LOOK_EVERY, Pressure
from botctl.bus.routing.requests import Switchboard
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.seen import Seen
from botctl.bus.routing.stats import RouterStats
from botctl.bus.stream_reply import entries_of, event_key, size_of
from botctl.bus.topology import ROUTER_GROUP, Receiver, Topology
from botctl.bus.wire import Line, execute, line, transact

_log = structlog.get_logger("botctl.bus.routing.router")

_CONSUMER = "router"  # One name for every incarnation, so that a new one finds what the last one has left unfinished.
_STREAMS_A_ROUND = 16
_TAIL = 5_000
_TIDY_EVERY = 10.0
_RELIEVE_EVERY = 1.0
_BETWEEN_RINGS = 0.02
_SWEEP_WITH_DOORBELL = 2.0
_PAGE = 200
_LOOK_AGAIN_AFTER = 0.02


class _StrangeServer(Exception):
    """Not the server on which all is made, or not with its data."""


class Router:
    """`roster` gives the fleet as it is now, the same object as long as it is the same.

    `on_rejected` is told of each dead letter, and of whatever else a bot does to the bus that no bot of ours would.
    `on_lost` is told that what this bot has relayed within so many seconds may be lost. `sweep_every`: seconds between
    looks at all streams while the doorbell doesn't work. `may_hand_out` says whether members of groups can store what
    they read. The logs keep events for `keep_seconds`; `on_dropped` is told of each reader that has lost some unread,
    `guard` looks after programs outside. `redis` needs all rights on the namespace.

    `server` gives the identity of the server on which all is made (`caretaking/identity.py`), None while there is none:
    on another one nothing is routed, and `on_stranger` is called. `gate` is held while anything is done.
    """

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        roster: Callable[[], Roster],
        on_rejected: Callable[[Rejected], None] | None = None,
        *,
        on_lost: Callable[[int, float], None] = lambda bot_id, seconds: None,
        sweep_every: float = 0.25,
        janitor: Janitor | None = None,
        may_hand_out: Callable[[], bool] = lambda: True,
        allowance: Allowance | None = None,
        keep_seconds: float = KEEP_SECONDS,
        on_dropped: Callable[[Dropped], None] = lambda dropped: None,
        guard: GrantGuard | None = None,
        gate: asyncio.Lock | None = None,
        server: Callable[[], str | None] | None = None,
        on_stranger: Callable[[], None] = lambda: None,
    ) -> None:
        self.stats = RouterStats()
        self.janitor = janitor or Janitor(
            redis,
            topology,
            on_flood=lambda bot, what: self._sentry.accuse(bot, what),
            sources=lambda receiver: self._pressure.sources(receiver),
            may_hand_out=may_hand_out,
            keep_seconds=keep_seconds,
            on_dropped=on_dropped,
            on_excess=guard.accuse if guard is not None else lambda group, what: None,
        )
        self._pressure = Pressure(time.monotonic, self.janitor.mailbox_limit)
        self._held: set[int] = set()
        """Bots whose events wait until others have read."""
        self._redis = redis
        self._topology = topology
        self._roster = roster
        self._on_rejected = on_rejected
        self._sweep_every = sweep_every
        self._fanout = Fanout()
        self._seen = Seen()
        self._switchboard = Switchboard(time.time())
        self._batcher = Batcher(topology, self._fanout, self._seen, self._switchboard)
        self._doorbell = Doorbell(redis, topology, self._consumer_made)
        self._sentry = Sentry(redis, topology, self._bots, self._offended, guard=guard)
        self._consumers: Counter[Receiver] = Counter()
        """Consumers made in mailboxes since all were looked at."""
        self._portions = Portions()
        self._on_lost = on_lost
        self._gate = gate or asyncio.Lock()
        self._server = server
        self._on_stranger = on_stranger
        self._known_since = 0.0
        """When the server was last found to be the right one, on the monotonic clock."""
        self._caught_up: set[int] = set()
        """Bots without entries that were read and not finished."""
        self._known: set[int] = {0}
        """Bots that have an out stream, in the fleet or not any more."""
        self._allowance = allowance or Allowance(time.monotonic)
        self._forgetful = False
        self._tampered = False
        """Whether a stream was seen that the janitor should look after without delay."""
        self._warned: dict[int, float] = {}

    def forget(self) -> None:
        """The server may have lost events: only what its logs still have counts as routed."""
        self._forgetful = True

    def kept_off(self) -> dict[int, tuple[str, float]]:
        """Bots that are kept off Redis now: why, and for how many seconds more."""
        return self._sentry.kept_off()

    async def run(self) -> None:
        """Route until cancelled. Redis being away is waited out."""
        backoff = Backoff()
        beside = [
            asyncio.create_task(self._doorbell.run(), name="bus doorbell"),
            asyncio.create_task(self._sentry.run(), name="bus sentry"),
        ]
        try:
            while True:
                try:
                    await self._route(backoff)
                except _StrangeServer:
                    self._on_stranger()
                    await asyncio.sleep(_LOOK_AGAIN_AFTER)
                except AWAY as error:
                    self._portions.careful()
                    await self._wait_out(error, reason(error), backoff)
                except Exception as error:
                    _log.exception("the router stumbles")
                    await self._wait_out(error, f"{type(error).__name__} in the router", backoff)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _route(self, backoff: Backoff) -> None:
        clock = asyncio.get_running_loop().time
        async with self._gate:
            await self._open()
        sweep_at = tidy_at = relieve_at = measure_at = clock()
        while True:
            self.stats.doorbell = self._doorbell.works
            async with self._gate:
                if self._forgetful:
                    await self._open()
                    sweep_at = clock()
                if clock() >= min(relieve_at, measure_at):
                    await self._recognise(self._redis)
                if clock() >= relieve_at:
                    await self.janitor.relieve(self._bots(), self._roster())
                    await self._look_for_losses()
                    self.stats.dropped = self.janitor.dropped
                    relieve_at = clock() + _RELIEVE_EVERY
                if clock() >= measure_at:
                    await self._measure()
                    measure_at = clock() + LOOK_EVERY
            if clock() >= sweep_at:
                self._sweep()
                sweep_at = clock() + (_SWEEP_WITH_DOORBELL if self._doorbell.works else self._sweep_every)
            if not self._doorbell.ready:
                await self._wait((min(sweep_at, measure_at) if self._held else sweep_at) - clock())
                continue
            chosen = self._take()
            if not chosen:
                await asyncio.sleep(_BETWEEN_RINGS)  # Bots that have to wait may ring as often as they like.
                continue
            roster = self._roster()
            self._fanout.update(roster)
            self._switchboard.update(roster)
            async with self._gate:
                if self._forgetful:
                    for bot_id in chosen:
                        self._doorbell.ring(bot_id)
                    continue
                await self._round(chosen)
                self._recovered(backoff)
                if clock() >= tidy_at or self._tampered:
                    self._tampered = False
                    self._consumers.clear()
                    await self._recognise(self._redis)
                    await self.janitor.tidy(self._bots(), self._doorbell.ring, roster)
                    self._pressure.measured(self.janitor.mailbox_depths)
                    self._pressure.forget(self.janitor.mailbox_depths)
                    self._tell_losses()
                    self._count_tidied(roster)
                    tidy_at = clock() + _TIDY_EVERY

    async def _recognise(self, redis: Redis | Line) -> None:
        """Raises _StrangeServer unless this is the server on which all is made."""
        if self._server is None:
            return
        known, now = self._server(), time.monotonic()
        if known is None or await identity(redis, self._topology) != known:
            raise _StrangeServer
        self._known_since = now

    def _count_tidied(self, roster: Roster) -> None:
        stats, janitor = self.stats, self.janitor
        stats.dropped, stats.replaced_streams, stats.remade_mailboxes = (
            janitor.dropped,
            janitor.outs.replaced,
            janitor.remade,
        )
        stats.taken_over, stats.given_up = janitor.groups.taken_over, janitor.groups.given_up
        stats.group_depths = {name: janitor.mailbox_depths.get(name, 0) for name in roster.groups}
        stats.group_pending = dict(janitor.groups.pending)

    async def _open(self) -> None:
        """After a start or an error: what is still pending is read again, what was routed is remembered."""
        await self._recognise(self._redis)
        self._caught_up.clear()
        async for key in self._redis.scan_iter(match=self._topology.out_pattern, count=1000):
            bot_id = self._topology.bot_of_out(key.decode())
            if bot_id is not None:
                self._known.add(bot_id)
        if self._forgetful:
            self._seen.forget()
            for bot_id in self._known:
                self.janitor.outs.losses.begun_again(bot_id)
        await self.janitor.letters.open()
        for log in Log:
            self._seen.add(reversed([key async for key in self._tail(log)]))
        self._forgetful = False
        self._doorbell.rung.set()

    async def _tail(self, log: Log) -> AsyncIterator[tuple[int, str]]:
        """Bot and id of the newest events of a log, the newest first. In pages: each may be large."""
        newest: bytes = b"+"
        for _ in range(_TAIL // _PAGE):
            page: Any = await self._redis.xrevrange(self._topology.log(log), max=newest, count=_PAGE) or []
            for _, fields in page:
                yield event_key(fields)
            if len(page) < _PAGE:
                return
            newest = b"(" + page[-1][0]

    def _bots(self) -> list[int]:
        self._known |= self._roster().bots.keys()
        return sorted(self._known)

    def _sweep(self) -> None:
        for bot_id in self._bots():
            self._doorbell.ring(bot_id)

    async def _measure(self) -> None:
        """The mailboxes that fill; then those who wait for their readers have another look."""
        if filling := self._pressure.to_measure():
            self._pressure.measured(await self.janitor.measure(filling))
        for bot_id in self._held:
            self._doorbell.ring(bot_id)
        self._held.clear()

    async def _wait(self, seconds: float) -> None:
        self._doorbell.rung.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._doorbell.rung.wait()
        except TimeoutError:
            return

    def _take(self) -> list[int]:
        """The streams that have waited longest: a flooding bot waits its turn behind the others.

        One that has used up its allowance waits for the next sweep, one that fills another's mailbox for its reader.
        """
        ready = self._doorbell.ready
        for bot_id in [bot for bot in ready if bot and self._allowance.exhausted(bot)]:
            del ready[bot_id]
            self._complain(bot_id, "bot publishes more than it may; its events have to wait")
        chosen: list[int] = []
        for bot_id in list(ready):
            if len(chosen) == _STREAMS_A_ROUND:
                break
            del ready[bot_id]
            if bot_id and self._pressure.room(bot_id) == 0:
                self._held.add(bot_id)
                self._complain(bot_id, "bot fills mailboxes faster than others read; its events have to wait")
            else:
                chosen.append(bot_id)
        return chosen

    def _count(self, bot_id: int) -> int:
        """Entries to ask for of this bot's stream."""
        count, room = self._portions.count(bot_id), self._pressure.room(bot_id) if bot_id else None
        return count if room is None else max(1, min(count, room))

    async def _round(self, bots: list[int]) -> None:
        """Read and route up to 100 entries of each stream. After any error `_open` makes all of it be read again."""
        async with line(self._redis) as held:
            if held.since >= self._known_since:
                await self._recognise(held)
            await self._round_over(held, bots)

    async def _round_over(self, held: Line, bots: list[int]) -> None:
        counts = {bot: self._count(bot) for bot in bots}
        *replies, marker = await execute(
            held,
            [
                ("XREADGROUP", "GROUP", ROUTER_GROUP, _CONSUMER, "COUNT", counts[bot], "STREAMS",
                 self._topology.out(bot), ">" if bot in self._caught_up else "0")
                for bot in bots
            ] + [("GET", self._topology.marker)],
        )  # fmt: skip
        if self._server is not None and not marker:
            raise _StrangeServer
        batch = Batch()
        for bot_id, reply in zip(bots, replies, strict=True):
            if isinstance(reply, BaseException):
                await self._repair(bot_id, reply)
                continue
            entries = entries_of(reply)
            if bot_id not in self._caught_up:
                if not entries:
                    self._caught_up.add(bot_id)
                self._doorbell.ring(bot_id)
            elif len(entries) >= counts[bot_id]:
                self._doorbell.ring(bot_id)
            if entries and self.janitor.outs.suspicious(entries[-1][0]):
                self._tampered = True
            size = sum(size_of(fields) for _, fields in entries)
            self._allowance.spend(bot_id, len(entries), size)
            self._portions.took(bot_id, len(entries), size)
            self._doorbell.added[bot_id] -= len(entries)
            for place, (entry_id, fields) in enumerate(entries):
                looked_at = self._fanout.looked_at
                copies = self._batcher.add(batch, bot_id, entry_id, fields)
                enough = self._allowance.routed(bot_id, copies, self._fanout.looked_at - looked_at)
                if batch.full:
                    await self._commit(batch, held)
                    batch = Batch()
                if enough and bot_id and place + 1 < len(entries):
                    self._caught_up.discard(bot_id)  # the others stay read and not acknowledged, until it may go on
                    self._doorbell.ring(bot_id)
                    break
        await self._commit(batch, held)

    async def _commit(self, batch: Batch, held: Line) -> None:
        if not batch.finished:
            return
        replies: list[Any] = []
        for commands in self._batcher.seal(batch):
            replies += await transact(held, commands)
        self._seen.add(batch.routed)
        for asked in batch.asked:
            self._switchboard.delivered(*asked)
        for answered in batch.answered:
            self._switchboard.replied(*answered)
        self._pressure.delivered(batch.deliveries)
        self.stats.routed += len(batch.routed)
        self.stats.delivered += batch.delivered
        self.stats.duplicates += batch.duplicates
        self.stats.rejected += len(batch.rejected)
        self.stats.requests += len(batch.asked)
        self.stats.replies += len(batch.answered)
        self.stats.refused_requests += batch.refused
        self.stats.expired += batch.expired
        await self._bury_failed(batch, replies)
        if batch.rejected:
            await self.janitor.letters.wrote(batch.letters(self._topology.dead_letters, replies))
        for rejected in batch.rejected:
            self._tell(rejected)
        for bot_id, entries in batch.vanished.items():
            self.janitor.outs.losses.missing(bot_id, entries)

    async def _look_for_losses(self) -> None:
        """At the streams of which less could be read than was added, and at those to be replaced without delay."""
        less = {bot for bot, added in self._doorbell.added.items() if added > 0}
        suspects = [bot for bot in self._caught_up if bot in less or not self.janitor.outs.losses.knows(bot)]
        self._doorbell.added.clear()
        if suspects:
            await self.janitor.outs.check(suspects, self._doorbell.ring)
            self.stats.replaced_streams = self.janitor.outs.replaced
        self._tell_losses()

    def _tell_losses(self) -> None:
        for bot_id, entries, seconds in self.janitor.outs.losses.take(time.monotonic()):
            self.stats.vanished += entries
            _log.warning("events are gone from an out stream before they were routed; they are relayed again",
                         bot_id=bot_id, events=entries, seconds=round(seconds))  # fmt: skip
            self._on_lost(bot_id, seconds)
            self._accuse(bot_id, f"its out stream was made unusable, or cut before it was routed: {entries} events")

    def _consumer_made(self, receiver: Receiver) -> None:
        """Nobody can say which member of a group it was: who shares a group shares this."""
        members = (receiver,) if isinstance(receiver, int) else self._roster().members(receiver)
        self._consumers[receiver] += 1
        if self._consumers[receiver] > MOST_CONSUMERS + len(members) - 1:
            del self._consumers[receiver]
            self._tampered |= isinstance(receiver, str)
            for bot_id in members:
                self._sentry.accuse(bot_id, "it makes consumers in its mailbox, or its group's, without end")

    def _offended(self, offence: Offence) -> None:
        self.stats.paused_bots += 1
        self._accuse(offence.bot_id, f"it was kept off Redis for {offence.seconds:.0f} s: {offence.what}")

    def _accuse(self, bot_id: int, what: str) -> None:
        if self._on_rejected is not None:
            self._on_rejected(Rejected(bot_id, "", what, b""))

    async def _bury_failed(self, batch: Batch, replies: list[Any]) -> None:
        """A write may fail though the MULTI was accepted, when a log or mailbox key is no stream."""
        for (bot_id, entry_id, body), reply in zip(batch.writes, replies, strict=False):
            if isinstance(reply, BaseException):
                batch.rejected.append(Rejected(bot_id, entry_id, f"it couldn't be written: {reply}", body))
                command = self._batcher.dead_letter(bot_id, entry_id, str(reply), body)
                (added,) = await execute(self._redis, [command])
                await self.janitor.letters.wrote([(command, added)])

    async def _repair(self, bot_id: int, error: BaseException) -> None:
        """An out stream without its group: the server lost it, or the bot is new."""
        if "WRONGTYPE" in str(error):
            self._complain(bot_id, "the key of an out stream holds something else")
            return
        if "NOGROUP" not in str(error):
            raise error
        if bot_id and bot_id not in self._roster().bots:
            self._known.discard(bot_id)  # Dropped together with its bot.
            return
        stream = self._topology.out(bot_id)
        for reply in await execute(
            self._redis, [("XGROUP", "CREATE", stream, ROUTER_GROUP, "0", "MKSTREAM", "ENTRIESREAD", 0)]
        ):
            if isinstance(reply, BaseException) and not is_busy_group(reply):
                raise reply
        self._doorbell.ring(bot_id)
        if bot_id in self._caught_up:
            self._caught_up.discard(bot_id)
            self.janitor.outs.losses.begun_again(bot_id)
            self.janitor.outs.losses.missing(bot_id, 0)
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
