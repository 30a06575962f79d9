"""Looks after the streams that members of a group share: what a member has left lying is handed out anew.

Members may read and acknowledge, no more: XAUTOCLAIM searches through all that isn't acknowledged, and so would let a
member keep the server busy. So it is done here, in `control`: an entry that a member has read and not acknowledged for
`IDLE` seconds is appended once more, for whoever reads first. Nothing is lost at any moment: what was claimed and not
appended is claimed again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.reading.dead_letters import dead_letter_command
from botctl.bus.reading.letter_shares import LetterKeeper
from botctl.bus.reading.mailbox_groups import begin_again, field_of
from botctl.bus.routing.roster import Roster
from botctl.bus.stream_reply import entry_order
from botctl.bus.topology import FIELD, MAILBOX_GROUP, TAKER, TRIES, Topology, consumer_of
from botctl.bus.wire import Command, execute, transact

_log = structlog.get_logger("botctl.bus.reading.groups")

IDLE = 60.0
"""Seconds after which an entry that a member has read and not acknowledged goes to another. A member stores what it has
read within 20 s or leaves it (`bot/exchange/group_work.py`), so one that is alive and slow is not overtaken."""

MOST_DELIVERIES = 5
"""Of an entry that nobody acknowledges: it has probably ended everybody who had it."""

SUSPECTED = 2
"""Deliveries from which on an entry is handed out with no other suspect beside it."""

STRAY_CONSUMERS = 8
"""Consumers of a group beside its members' that are nothing to look at; they are taken away one by one."""

_PAGE = 100


@dataclass(frozen=True)
class Fate:
    """What becomes of entries nobody has acknowledged, by id, with how often each was delivered.

    `anew` are handed out anew, `dead` given up. `suspects` may be what ends members: handed out one at a time, so that
    the one that does it takes no other with it.
    """

    anew: dict[bytes, int]
    suspects: dict[bytes, int]
    dead: dict[bytes, int]


def judge(pending: Sequence[tuple[bytes, int, int]], tries: dict[bytes, int]) -> Fate:
    """`pending`: id, milliseconds since the last delivery, deliveries; `tries`: earlier ones under other ids. Pure."""
    anew: dict[bytes, int] = {}
    suspects: dict[bytes, int] = {}
    dead: dict[bytes, int] = {}
    for entry_id, idle, deliveries in pending:
        total = tries.get(entry_id, 0) + deliveries
        if total >= MOST_DELIVERIES and (idle >= IDLE * 1000 or total > MOST_DELIVERIES):
            dead[entry_id] = total
        elif idle >= IDLE * 1000:
            (anew if total < SUSPECTED else suspects)[entry_id] = total
    return Fate(anew, suspects, dead)


class GroupTender:
    """Raises what Redis raises. `redis` needs all rights on the namespace."""

    def __init__(self, redis: Redis, topology: Topology, letters: LetterKeeper | None = None) -> None:
        self.taken_over = 0
        """Entries handed out anew so far."""
        self.given_up = 0
        """Entries that became dead letters so far."""
        self.pending: dict[str, int] = {}
        """Entries that members have read and not acknowledged, by group, when last looked at."""
        self._redis = redis
        self._topology = topology
        self._letters = letters or LetterKeeper(redis, topology)
        self._tried: dict[str, bytes] = {}
        """The suspect that was handed out last, by group."""

    async def tend(self, roster: Roster) -> None:
        """Look at every group once."""
        self.pending = {name: count for name, count in self.pending.items() if name in roster.groups}
        for name in roster.groups:
            await self._tend(name, roster.members(name))

    async def _tend(self, name: str, members: Collection[int]) -> None:
        stream = self._topology.group(name)
        groups, summary = await execute(self._redis, [("XINFO", "GROUPS", stream), ("XPENDING", stream, MAILBOX_GROUP)])
        if isinstance(groups, BaseException) or isinstance(summary, BaseException) or not groups:
            return  # The janitor makes it anew.
        self.pending[name] = int(summary[0] or 0)
        if int(field_of(groups[0], "consumers") or 0) > len(members) + STRAY_CONSUMERS:
            await begin_again(self._redis, stream)
            _log.warning("group had too many consumers and was begun again", group=name)
            return
        await self._sweep_consumers(stream, {consumer_of(bot).encode() for bot in members})
        if self.pending[name]:
            await self._hand_out(name, stream)

    async def _hand_out(self, name: str, stream: str) -> None:
        (idle,) = await execute(self._redis, [("XPENDING", stream, MAILBOX_GROUP, "-", "+", _PAGE)])
        if isinstance(idle, BaseException):
            return
        pending = [(entry_id, int(since), int(times)) for entry_id, _, since, times in idle]
        bodies = await self._bodies(stream, [entry_id for entry_id, _, _ in pending])
        fate = judge(pending, {entry_id: int(fields.get(TRIES.encode(), 0)) for entry_id, fields in bodies.items()})
        for entry_id, times in fate.anew.items():
            await self._finish(name, entry_id, times, bodies.get(entry_id, {}))
        for entry_id, times in fate.dead.items():
            await self._finish(name, entry_id, times, bodies.get(entry_id, {}), dead=True)
        if fate.suspects and not await self._is_tried(name, stream):
            entry_id = min(fate.suspects)
            added = await self._finish(name, entry_id, fate.suspects[entry_id], bodies.get(entry_id, {}))
            if added is not None:
                self._tried[name] = added

    async def _is_tried(self, name: str, stream: str) -> bool:
        """Whether the last suspect is not read yet, or not acknowledged."""
        entry_id = self._tried.get(name)
        if entry_id is None:
            return False
        groups, pending = await execute(
            self._redis,
            [("XINFO", "GROUPS", stream), ("XPENDING", stream, MAILBOX_GROUP, entry_id, entry_id, 1)],
        )
        if isinstance(groups, BaseException) or isinstance(pending, BaseException) or not groups:
            return False
        read_to = field_of(groups[0], "last-delivered-id").decode()
        return bool(pending) or entry_order(read_to) < entry_order(entry_id.decode())

    async def _finish(
        self, name: str, entry_id: bytes, times: int, fields: Mapping[bytes, bytes], *, dead: bool = False
    ) -> bytes | None:
        """Append it anew, or bury it; the new id. None if it was acknowledged in this moment, or is gone."""
        stream, body = self._topology.group(name), fields.get(FIELD.encode(), b"")
        claim: Command = ("XCLAIM", stream, MAILBOX_GROUP, TAKER, 0 if dead else int(IDLE * 1000), entry_id, "JUSTID")
        (claimed,) = await execute(self._redis, [claim])
        if not isinstance(claimed, list) or not claimed:
            return None
        command: Command = ("XADD", stream, "*", FIELD, body, TRIES, times)
        if dead:
            reason = f"none of the group's members has acknowledged it in {times} deliveries"
            command = dead_letter_command(
                self._topology, stream, entry_id.decode(), reason, body, attempts=times, whole=bool(body)
            )
        done: list[Command] = [("XACK", stream, MAILBOX_GROUP, entry_id), ("XDEL", stream, entry_id)]
        replies = await transact(self._redis, [command, *done] if body else done)
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        if dead:
            await self._letters.wrote([(command, replies[0])] if body else [])
            self.given_up += 1
            _log.error("an entry of a group became a dead letter", group=name, entry=entry_id.decode(), times=times)
            return None
        self.taken_over += 1
        _log.warning("an entry of a group is handed out anew: its member has left it",
                     group=name, entry=entry_id.decode(), times=times)  # fmt: skip
        return replies[0] if body else None

    async def _bodies(self, stream: str, ids: list[bytes]) -> dict[bytes, dict[bytes, bytes]]:
        replies = await execute(self._redis, [("XRANGE", stream, one, one) for one in ids])
        found: dict[bytes, dict[bytes, bytes]] = {}
        for one, reply in zip(ids, replies, strict=True):
            if not isinstance(reply, BaseException) and reply and reply[0][1]:
                words: Any = reply[0][1]
                found[one] = dict(zip(words[::2], words[1::2], strict=True))
        return found

    async def _sweep_consumers(self, stream: str, members: Collection[bytes]) -> None:
        """Those of bots that have left the group, once what they had read is handed out."""
        (consumers,) = await execute(self._redis, [("XINFO", "CONSUMERS", stream, MAILBOX_GROUP)])
        if isinstance(consumers, BaseException):
            return
        idle = [field_of(one, "name") for one in consumers if not field_of(one, "pending")]
        gone = [name for name in idle if name not in members]
        await execute(self._redis, [("XGROUP", "DELCONSUMER", stream, MAILBOX_GROUP, name) for name in gone])
