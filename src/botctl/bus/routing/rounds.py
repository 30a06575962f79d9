"""One round of the router: reads of some out streams, and writes and acknowledges in one MULTI what became of it.

An event is routed once, also when the router dies at any moment, and when Redis is out of memory nothing is
acknowledged. What was relayed twice is recognised by its id; the tail of the logs is the memory of a new router.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.caretaking.admin import is_busy_group
from botctl.bus.caretaking.janitor import Janitor
from botctl.bus.events import Log
from botctl.bus.routing.allowance import LOOKS
from botctl.bus.routing.batch import Batch, Rejected
from botctl.bus.routing.batcher import Batcher
from botctl.bus.routing.complaints import Complaints
from botctl.bus.routing.doorbell import Doorbell
from botctl.bus.routing.fanout import Fanout
from botctl.bus.routing.pressure import Pressure
from botctl.bus.routing.recognition import StrangeServerError
from botctl.bus.routing.requests import Switchboard
from botctl.bus.routing.roster import Roster
from botctl.bus.routing.seen import Seen
from botctl.bus.routing.stats import RouterStats
from botctl.bus.routing.turns import Turns
from botctl.bus.stream_reply import entries_of, event_key, size_of
from botctl.bus.topology import ROUTER_GROUP, Topology
from botctl.bus.wire import Line, execute, transact

_log = structlog.get_logger("botctl.bus.routing.router")

_CONSUMER = "router"  # One name for every incarnation, so that a new one finds what the last one has left unfinished.
_TAIL = 5_000
_PAGE = 200
_ASK_AFTER = 32 * 1024
"""Bytes put into mailboxes after which it is asked whether the bot may put more there."""


class Rounds:
    """`marked`: whether the server must have the marker of one on which all is made."""

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        roster: Callable[[], Roster],
        janitor: Janitor,
        doorbell: Doorbell,
        turns: Turns,
        pressure: Pressure,
        complaints: Complaints,
        stats: RouterStats,
        *,
        marked: bool,
    ) -> None:
        self.caught_up: set[int] = set()
        """Bots without entries that were read and not finished."""
        self.known: set[int] = {0}
        """Bots that have an out stream, in the fleet or not any more."""
        self.tampered = False
        """Whether a stream was seen that the janitor should look after without delay."""
        self.seen = Seen()
        self._redis = redis
        self._topology = topology
        self._roster = roster
        self._janitor = janitor
        self._doorbell = doorbell
        self._turns = turns
        self._pressure = pressure
        self._complaints = complaints
        self._stats = stats
        self._marked = marked
        self._fanout = Fanout()
        self._switchboard = Switchboard(time.time())
        self._batcher = Batcher(topology, self._fanout, self.seen, self._switchboard)

    def update(self, roster: Roster) -> None:
        """The fleet as it is now."""
        self._fanout.update(roster)
        self._switchboard.update(roster)

    async def start_over(self, *, forget: bool) -> None:
        """What is still pending is read again, what was routed is remembered; with `forget` only what the logs have."""
        self.caught_up.clear()
        async for key in self._redis.scan_iter(match=self._topology.out_pattern, count=1000):
            bot_id = self._topology.bot_of_out(key.decode())
            if bot_id is not None:
                self.known.add(bot_id)
        if forget:
            self.seen.forget()
            for bot_id in self.known:
                self._janitor.outs.losses.begun_again(bot_id)
        await self._janitor.letters.open()
        for log in Log:
            self.seen.add(reversed([key async for key in self._tail(log)]))

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

    async def route(self, held: Line, bots: list[int]) -> None:
        """Read and route up to 100 entries of each stream. After any error `start_over` has all of it read again."""
        counts = {bot: self._turns.count(bot) for bot in bots}
        *replies, marker = await execute(
            held,
            [
                ("XREADGROUP", "GROUP", ROUTER_GROUP, _CONSUMER, "COUNT", counts[bot], "STREAMS",
                 self._topology.out(bot), ">" if bot in self.caught_up else "0")
                for bot in bots
            ] + [("GET", self._topology.marker)],
        )  # fmt: skip
        if self._marked and not marker:
            raise StrangeServerError
        batch = Batch()
        for bot_id, reply in zip(bots, replies, strict=True):
            if isinstance(reply, BaseException):
                await self._repair(bot_id, reply)
                continue
            entries = entries_of(reply)
            if bot_id not in self.caught_up:
                if not entries:
                    self.caught_up.add(bot_id)
                self._doorbell.ring(bot_id)
            elif len(entries) >= counts[bot_id]:
                self._doorbell.ring(bot_id)
            if entries and self._janitor.outs.suspicious(entries[-1][0]):
                self.tampered = True
            sizes = [size_of(fields) for _, fields in entries]
            self._turns.portions.took(bot_id, len(entries), sum(sizes))
            self._doorbell.added[bot_id] -= len(entries)
            done = copied = looks = 0
            for entry_id, fields in entries:
                looked_at = self._fanout.looked_at
                copied += self._batcher.add(batch, bot_id, entry_id, fields)
                looks += self._fanout.looked_at - looked_at
                done += 1
                if batch.full:
                    await self._commit(batch, held)
                    batch = Batch()
                if copied < _ASK_AFTER and looks < LOOKS:
                    continue
                enough = self._turns.allowance.routed(bot_id, copied, looks)
                copied = looks = 0
                if enough and bot_id and done < len(entries):
                    self.caught_up.discard(bot_id)  # the others stay read and not acknowledged, until it may go on
                    self._doorbell.ring(bot_id)
                    break
            self._turns.allowance.routed(bot_id, copied, looks)
            self._turns.allowance.spend(bot_id, done, sum(sizes[:done]))
        await self._commit(batch, held)

    async def _commit(self, batch: Batch, held: Line) -> None:
        if not batch.finished:
            return
        replies: list[Any] = []
        for commands in self._batcher.seal(batch):
            replies += await transact(held, commands)
        self.seen.add(batch.routed)
        for asked in batch.asked:
            self._switchboard.delivered(*asked)
        for answered in batch.answered:
            self._switchboard.replied(*answered)
        self._pressure.delivered(batch.deliveries)
        self._stats.routed += len(batch.routed)
        self._stats.delivered += batch.delivered
        self._stats.duplicates += batch.duplicates
        self._stats.rejected += len(batch.rejected)
        self._stats.requests += len(batch.asked)
        self._stats.replies += len(batch.answered)
        self._stats.refused_requests += batch.refused
        self._stats.expired += batch.expired
        await self._bury_failed(batch, replies)
        if batch.rejected:
            await self._janitor.letters.wrote(batch.letters(self._topology.dead_letters, replies))
        for rejected in batch.rejected:
            self._complaints.refused(rejected)
        for bot_id, entries in batch.vanished.items():
            self._janitor.outs.losses.missing(bot_id, entries)

    async def _bury_failed(self, batch: Batch, replies: list[Any]) -> None:
        """A write may fail though the MULTI was accepted, when a log or mailbox key is no stream."""
        for (bot_id, entry_id, body), reply in zip(batch.writes, replies, strict=False):
            if isinstance(reply, BaseException):
                batch.rejected.append(Rejected(bot_id, entry_id, f"it couldn't be written: {reply}", body))
                command = self._batcher.dead_letter(bot_id, entry_id, str(reply), body)
                (added,) = await execute(self._redis, [command])
                await self._janitor.letters.wrote([(command, added)])

    async def _repair(self, bot_id: int, error: BaseException) -> None:
        """An out stream without its group: the server lost it, or the bot is new."""
        if "WRONGTYPE" in str(error):
            self._complaints.warn(bot_id, "the key of an out stream holds something else")
            return
        if "NOGROUP" not in str(error):
            raise error
        if bot_id and bot_id not in self._roster().bots:
            self.known.discard(bot_id)  # Dropped together with its bot.
            return
        stream = self._topology.out(bot_id)
        for reply in await execute(
            self._redis, [("XGROUP", "CREATE", stream, ROUTER_GROUP, "0", "MKSTREAM", "ENTRIESREAD", 0)]
        ):
            if isinstance(reply, BaseException) and not is_busy_group(reply):
                raise reply
        self._doorbell.ring(bot_id)
        if bot_id in self.caught_up:
            self.caught_up.discard(bot_id)
            self._janitor.outs.losses.begun_again(bot_id)
            self._janitor.outs.losses.missing(bot_id, 0)
            _log.warning("an out stream or its group was missing and has been made", bot_id=bot_id, stream=stream)
        else:
            _log.info("an out stream has been made", bot_id=bot_id, stream=stream)
