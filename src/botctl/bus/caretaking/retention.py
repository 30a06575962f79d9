"""How long the logs keep events: by age, but never away from under a reader without a word.

What a program outside (`grants.py`) has not read yet stays beyond its age, as long as the log keeps to its share of
the memory (`room.py`). When it must go after all, it is said: which entries, of which log, for whom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import Redis

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.caretaking.grant_limits import MOST_PENDING
from botctl.bus.caretaking.grants import GROUP
from botctl.bus.events import Log
from botctl.bus.reading.mailbox_groups import field_of
from botctl.bus.stream_reply import entry_after, entry_order, text_of
from botctl.bus.topology import Topology
from botctl.bus.wire import Command, execute

_log = structlog.get_logger("botctl.bus.caretaking.retention")

KEEP_SECONDS = 7 * 86_400
"""How long the logs keep an event, unless the operator sets `bus_keep`."""

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class _Reader:
    """A group of a log: its place, how many it has read of all there ever were, what it holds."""

    last: str
    read: int | None
    pending: int
    first_pending: str

    @property
    def needs(self) -> str:
        """The first entry that it still needs has this id or a greater one."""
        return (
            min(self.first_pending, entry_after(self.last), key=entry_order) if self.pending else entry_after(self.last)
        )


@dataclass(frozen=True, slots=True)
class _State:
    """A log. `first` is the id of its oldest entry, empty if there is none."""

    added: int
    length: int
    first: str
    readers: Mapping[str, _Reader]

    @property
    def gone(self) -> int:
        """How many entries were ever cut off it."""
        return self.added - self.length


class Retention:
    """Methods raise what Redis raises. `on_dropped` is told of each reader that has lost something."""

    def __init__(
        self,
        redis: Redis,
        topology: Topology,
        keep_seconds: float = KEEP_SECONDS,
        on_dropped: Callable[[Dropped], None] = lambda dropped: None,
    ) -> None:
        self.overdue: dict[tuple[str, str], str] = {}
        """Stream and group of readers for whom entries are kept beyond their age, and the id of the first of these."""
        self._redis = redis
        self._topology = topology
        self._keep_ms = int(keep_seconds * 1000)
        self._on_dropped = on_dropped
        self._streams = [topology.log(log) for log in Log]

    async def trim(self, now: int) -> None:
        """Cut off the logs what is old enough and needed by nobody. `now` in milliseconds since the epoch."""
        oldest = f"{max(0, now - self._keep_ms)}-0"
        states = await self.look()
        overdue = await self._overdue(states, oldest)
        limits = {
            stream: min([oldest, *(entry for (one, _), entry in overdue.items() if one == stream)], key=entry_order)
            for stream in states
        }
        commands: list[Command] = [("XTRIM", stream, "MINID", "~", limit) for stream, limit in limits.items()]
        for reply in await execute(self._redis, commands):
            if isinstance(reply, BaseException):
                raise reply
        for stream, group in overdue.keys() - self.overdue.keys():
            _log.warning("events are kept beyond their age: a reader has not read them", stream=stream,
                         reader=reader_of(group), first=overdue[stream, group])  # fmt: skip
        self.overdue = overdue

    async def _overdue(self, states: Mapping[str, _State], oldest: str) -> dict[tuple[str, str], str]:
        """By stream and group: the first entry that a reader needs and that is older than entries are kept."""
        late = {
            (stream, group): reader.needs
            for stream, state in states.items()
            for group, reader in state.readers.items()
            if state.first and entry_order(max(state.first, reader.needs, key=entry_order)) < entry_order(oldest)
        }
        asked: list[Command] = [("XRANGE", stream, entry, "+", "COUNT", 1) for (stream, _), entry in late.items()]
        firsts = dict(zip(late, await execute(self._redis, asked), strict=True))
        found = {key: text_of(reply[0][0]) for key, reply in firsts.items() if isinstance(reply, list) and reply}
        return {key: entry for key, entry in found.items() if entry_order(entry) < entry_order(oldest)}

    async def look(self) -> dict[str, _State]:
        """The logs as they are now."""
        asked: list[Command] = [(*what, one) for one in self._streams for what in (("XINFO", "STREAM"), _GROUPS)]
        replies = iter(await execute(self._redis, asked))
        states: dict[str, _State] = {}
        for stream, info, groups in zip(self._streams, replies, replies, strict=False):
            if isinstance(info, BaseException) or isinstance(groups, BaseException):
                continue  # There is no such log yet.
            names = [name for group in groups if GROUP.fullmatch(name := text_of(field_of(group, "name")))]
            pending = dict(
                zip(names, await execute(self._redis, [("XPENDING", stream, name) for name in names]), strict=True)
            )
            readers = {
                name: _reader(group, pending[name])
                for group in groups
                if (name := text_of(field_of(group, "name"))) in pending
                and not isinstance(pending[name], BaseException)
            }
            first = field_of(info, "first-entry")
            states[stream] = _State(
                int(field_of(info, "entries-added")),
                int(field_of(info, "length")),
                text_of(first[0]) if first else "",
                readers,
            )
        return states

    async def tell(self, before: Mapping[str, _State], why: str) -> None:
        """Somebody has cut the logs since they looked so: say what readers have lost by it."""
        after = await self.look()
        for stream, was in before.items():
            now = after.get(stream)
            if now is None or now.gone <= was.gone:
                continue
            for group, reader in was.readers.items():
                await self._tell(stream, group, reader, was, now, why)

    async def _tell(self, stream: str, group: str, reader: _Reader, was: _State, now: _State, why: str) -> None:
        read = max(reader.read if reader.read is not None else was.gone, was.gone)
        unread = max(0, now.gone - read)
        pending = await self._pending_between(stream, group, was.first, now.first) if reader.pending else 0
        if not unread and not pending:
            return
        first = max(reader.needs, was.first or "0", key=entry_order)
        self._on_dropped(Dropped(stream, reader_of(group), unread + pending, first, now.first, why))
        if unread:
            # The server goes on counting from what was read, as if nothing were gone. Should the reader have read on in
            # this moment, it reads those once more.
            commands: list[Command] = [("XGROUP", "SETID", stream, group, reader.last, "ENTRIESREAD", now.gone)]
            await execute(self._redis, commands)

    async def _pending_between(self, stream: str, group: str, first: str, end: str) -> int:
        """Entries read and not acknowledged from `first` on and before `end`; all of them from there if it is empty."""
        count, start = 0, first or "-"
        while count < MOST_PENDING:
            asked: Command = ("XPENDING", stream, group, start, f"({end}" if end else "+", _PAGE)
            (page,) = await execute(self._redis, [asked])
            if isinstance(page, BaseException) or not page:
                break
            count += len(page)
            start = f"({text_of(page[-1][0])}"
        return count


_GROUPS = ("XINFO", "GROUPS")


def reader_of(group: str) -> str:
    """How the reader with this consumer group is called; the half that can't be guessed stays away from logs."""
    found = GROUP.fullmatch(group)
    return f"grant:{found[1]}" if found is not None else f"group:{group}"


def _reader(group: Any, pending: Any) -> _Reader:
    read = field_of(group, "entries-read")
    return _Reader(
        last=text_of(field_of(group, "last-delivered-id")),
        read=read if isinstance(read, int) else None,
        pending=int(pending[0] or 0),
        first_pending=text_of(pending[1]) if pending[0] else "",
    )
