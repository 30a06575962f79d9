"""Keeps the bus's streams short and usable: logs, mailboxes, out streams, the work of groups.

Nothing is dropped without a word: what is cut off a mailbox that nobody reads, or off streams that take more than their
share of the memory, is counted and reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grant_limits import tame
from botctl.bus.caretaking.out_streams import OutStreams, server_time
from botctl.bus.caretaking.retention import KEEP_SECONDS, Retention
from botctl.bus.caretaking.room import Cut, Room
from botctl.bus.reading.dead_letters import dead_letter_command
from botctl.bus.reading.groups import GroupTender
from botctl.bus.reading.letter_shares import LetterKeeper
from botctl.bus.reading.mailbox_groups import MAILBOX_CONSUMERS, begin_again, field_of
from botctl.bus.routing.roster import Roster
from botctl.bus.stream_reply import entry_after, text_of
from botctl.bus.topology import MAILBOX_GROUP, Receiver, Topology
from botctl.bus.wire import Command, execute

_log = structlog.get_logger("botctl.bus.caretaking.janitor")

MAILBOX_LIMIT = 10_000
"""Entries a mailbox holds for a bot that doesn't read, before the oldest are cut off."""

_TELL_EVERY = 600.0
"""Seconds between two dead letters about one mailbox."""


class Janitor:
    """Runs between the router's batches, never beside them."""

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        *,
        keep_seconds: float = KEEP_SECONDS,
        mailbox_limit: int = MAILBOX_LIMIT,
        memory: int | None = None,
        on_flood: Callable[[int, str], None] = lambda bot_id, what: None,
        sources: Callable[[Receiver], str] = lambda receiver: "",
        may_hand_out: Callable[[], bool] = lambda: True,
        on_dropped: Callable[[Dropped], None] = lambda dropped: None,
        on_excess: Callable[[str, str], None] = lambda group, what: None,
    ) -> None:
        self.dropped = 0
        """Entries cut off so far: unread ones, and ones of the logs before their time."""
        self.remade = 0
        """Mailboxes, of bots and of groups, that had to be made again."""
        self.mailbox_depths: dict[Receiver, int] = {}
        """Entries not acknowledged, by bot or group, when last looked at."""
        self.letters = LetterKeeper(redis, topology)
        self.groups = GroupTender(redis, topology, self.letters)
        self.outs = OutStreams(redis, topology)
        self._redis = redis
        self._topology = topology
        self._flooding = on_flood
        self._sources = sources
        """Where most of what stands in a mailbox came from, in words."""
        self._may_hand_out = may_hand_out
        """Whether members of groups could store what they have read: else nobody has left anything."""
        self._cut_off: dict[Receiver, int] = {}
        self._told: dict[Receiver, float] = {}
        self.retention = Retention(redis, topology, keep_seconds, on_dropped)
        self._on_dropped = on_dropped
        """Told of each reader from whom something was taken that it has not had."""
        self._on_excess = on_excess
        """Told of groups of programs outside that held too much."""
        self.mailbox_limit = mailbox_limit
        self._room = Room(redis, topology, memory=memory)

    async def relieve(self, bots: Collection[int], roster: Roster) -> None:
        """Make room if the server is nearly full. Needs no memory itself."""
        if await self._room.scarce():
            await self.measure([*(bot for bot in bots if bot), *roster.groups])  # what is read goes first
            await self._keep_room(bots, roster)

    async def tidy(self, bots: Collection[int], ring: Callable[[int], None], roster: Roster) -> None:
        """Look after the logs, these bots' streams and the fleet's groups.

        `ring` is called for streams that must be emptied first. Mailboxes that the fleet should have are made again.
        """
        await self.retention.trim(await server_time(self._redis))
        mailboxes: list[Receiver] = [*(bot for bot in bots if bot), *roster.groups]
        self.mailbox_depths = {}
        for receiver, length in (await self.measure(mailboxes, wanted=set(roster.receivers()))).items():
            if length > self.mailbox_limit:
                await self._cut(receiver)
        if self._may_hand_out():
            await self.groups.tend(roster)
        await self.outs.check(bots, ring)
        await self._keep_room(bots, roster)

    async def _keep_room(self, bots: Collection[int], roster: Roster) -> None:
        # What a group of a log holds counts as the log's: that is no reason to cut the log.
        for group, what in (await tame(self._redis, self._topology)).items():
            self._on_excess(group, what)
        before = await self.retention.look()
        cuts = await self._room.keep(bots, roster.groups)
        if any(cut.stream in before for cut in cuts):
            await self.retention.tell(before, "memory")
        for cut in cuts:
            self.dropped += cut.entries
            _log.warning(
                "stream takes more than its share of the memory: its oldest events were cut off",
                stream=cut.stream,
                bot_id=cut.bot_id,
                dropped=cut.entries,
            )
            if cut.unrouted and cut.bot_id is not None:
                self.outs.losses.begun_again(cut.bot_id)
                self.outs.losses.missing(cut.bot_id, cut.entries)  # what came from its outbox is relayed again
                self._flooding(cut.bot_id, f"its events fill the memory; {cut.entries} were dropped unread")
                await self._bury(cut)
            elif (receiver := self._topology.receiver_of(cut.stream)) is not None:
                await self._tell_dropped(receiver, cut.entries, "", "memory")

    async def _tell_dropped(self, receiver: Receiver, entries: int, first: str, why: str) -> None:
        stream, reader = self._topology.inlet(receiver), f"{'bot' if isinstance(receiver, int) else 'group'}:{receiver}"
        self._on_dropped(Dropped(stream, reader, entries, first, await self._first(stream), why))

    async def _first(self, stream: str) -> str:
        """The id of the oldest entry; empty if there is none."""
        (reply,) = await execute(self._redis, [("XRANGE", stream, "-", "+", "COUNT", 1)])
        return reply[0][0].decode() if isinstance(reply, list) and reply else ""

    async def _bury(self, cut: Cut) -> None:
        """One dead letter for all: keeping them would fill the memory again."""
        await self._bury_one(cut.stream, f"flood: {cut.entries} events were dropped unread")

    async def _bury_one(self, stream: str, reason: str) -> None:
        command = dead_letter_command(self._topology, stream, "", reason, b"", whole=False)  # nothing to try again
        (reply,) = await execute(self._redis, [command])
        if isinstance(reply, BaseException):
            _log.warning("a dead letter can't be written", reason=str(reply)[:200])
        await self.letters.wrote([(command, reply)])

    async def measure(self, receivers: list[Receiver], wanted: Collection[Receiver] = ()) -> dict[Receiver, int]:
        """Take away what these have read of their mailboxes, and count what is left.

        A mailbox without its consumer group, or none at all, is made again if it is `wanted`.
        """
        streams = [self._topology.inlet(receiver) for receiver in receivers]
        replies = await execute(self._redis, [("XINFO", "GROUPS", stream) for stream in streams])
        summaries = await execute(self._redis, [("XPENDING", stream, MAILBOX_GROUP) for stream in streams])
        trims: list[Command] = []
        missing: list[str] = []
        for receiver, stream, groups, pending in zip(receivers, streams, replies, summaries, strict=True):
            if isinstance(groups, BaseException) or isinstance(pending, BaseException):
                if receiver in wanted and not (isinstance(groups, BaseException) and "WRONGTYPE" in str(groups)):
                    missing.append(stream)
                continue  # Nothing was read, so nothing is trimmed.
            consumers = max((int(field_of(group, "consumers") or 0) for group in groups), default=0)
            crowded = isinstance(receiver, int) and consumers > MAILBOX_CONSUMERS
            if crowded or int(pending[0] or 0) > 2 * self.mailbox_limit:
                await begin_again(self._redis, stream)
                _log.warning("mailbox had too many consumers or unacknowledged events; its group was begun again",
                             stream=stream, consumers=consumers, unacknowledged=int(pending[0] or 0))  # fmt: skip
                continue
            delivered = next((field_of(group, "last-delivered-id") for group in groups), None)
            if delivered is not None:
                first = pending[1] if pending[0] else entry_after(text_of(delivered))
                trims.append(("XTRIM", stream, "MINID", "=", first))
        await _checked(self._redis, trims)
        await self._make_again(missing)
        lengths = await execute(self._redis, [("XLEN", stream) for stream in streams])
        depths = {one: length for one, length in zip(receivers, lengths, strict=True) if isinstance(length, int)}
        self.mailbox_depths |= depths
        return depths

    async def _make_again(self, streams: list[str]) -> None:
        """Mailboxes that somebody has deleted, or whose group. What stands in them is read from its beginning."""
        commands: list[Command] = [("XGROUP", "CREATE", one, MAILBOX_GROUP, "0", "MKSTREAM") for one in streams]
        for stream, reply in zip(streams, await execute(self._redis, commands), strict=True):
            if not isinstance(reply, BaseException):
                self.remade += 1
                _log.warning("a mailbox was missing, or its group, and has been made", stream=stream)

    async def _cut(self, receiver: Receiver) -> None:
        stream, sources = self._topology.inlet(receiver), self._sources(receiver)
        whose = {"bot_id": receiver} if isinstance(receiver, int) else {"group": receiver}
        first = await self._first(stream)
        dropped = int(await self._redis.xtrim(stream, maxlen=self.mailbox_limit, approximate=False))
        self.dropped += dropped
        await self._tell_dropped(receiver, dropped, first, "overflow")
        self.mailbox_depths[receiver] = self.mailbox_limit
        _log.warning("mailbox overflows, nobody reads it: the oldest unread events were cut off",
                     **whose, dropped=dropped, most_came_from=sources)  # fmt: skip
        self._cut_off[receiver] = self._cut_off.get(receiver, 0) + dropped
        now = time.monotonic()
        if now - self._told.get(receiver, -_TELL_EVERY) >= _TELL_EVERY:
            self._told[receiver] = now
            who = "a bot that does" if isinstance(receiver, int) else "a group whose members do"
            reason = f"overflow: {self._cut_off.pop(receiver)} events for {who} not read were cut off"
            await self._bury_one(stream, f"{reason}; in its mailbox stand {sources}" if sources else reason)


async def _checked(redis: Redis, commands: list[Command]) -> None:
    for reply in await execute(redis, commands):
        if isinstance(reply, BaseException) and not isinstance(reply, ResponseError):
            raise reply
