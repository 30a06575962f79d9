"""The way into the inbox and out of it into the lanes: what is stored, and what of it is in memory.

Storing and reading exclude each other, so that no row can slip between a read of the database and the rows that are
put into memory right after their commit. What other processes put into the inbox is found by looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.faults import brief, data_refused
from botctl.bot.receiving.lanes import Lanes
from botctl.storage.inbox import Inbox, InboxRow, NewRow, Stored, harmless
from botctl.storage.repeats import another, is_repeat, to_compare

_log = structlog.get_logger("botctl.bot.receiving.intake")
_READ = 200


class Intake:
    """Owns the order of arrival. `changed` is called when the lanes may have more to give. `now` is monotonic.

    Rows of others may become visible in another order than that of their numbers, which are given before a commit. So
    there is no mark up to which the inbox has been read: what is looked for is what waits and is not in memory.
    """

    def __init__(
        self, database: Database, inbox: Inbox, lanes: Lanes, changed: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._lanes = lanes
        self._changed = changed
        self._now = now
        self._lock = asyncio.Lock()
        self._behind = True
        """Whether rows may wait in the database that are not in memory, besides those of overflowed lanes."""
        self._seen: int | None = None
        """The highest inbox_id there was at the last look behind a backlog."""

    async def store(self, rows: Sequence[NewRow], *, old: bool = False) -> frozenset[str]:
        """Commit rows; returns the causes that are new. Waits as long as the database is away.

        `old`: they have waited elsewhere, as a backlog.

        Rows the database refuses together are stored one by one, and one it refuses alone becomes a dead letter, so
        that nothing keeps the others out.
        """
        if not rows:
            return frozenset()
        async with self._lock:
            stored = await self._insert_all(rows)
            if others := await self._others(to_compare(rows, stored)):
                rows = [*rows, *others]
                stored |= await self._insert_all(others)
            if len(stored) < len(rows):
                # They were there already: handled, in memory, or just now stored by an INSERT whose answer was lost
                # and which was then repeated. The database knows.
                self._behind = True
            previous: dict[str, int] = {}
            firsts = {row.cause: row for row in reversed(rows)}
            for row in rows:
                if (one := stored.get(row.cause)) is None or row.dead is not None or firsts[row.cause] is not row:
                    continue
                fresh = InboxRow(one.inbox_id, row.cause, row.kind, row.lane, row.payload, row.trace_id, replayed=False)
                before = previous.get(row.lane, one.previous)
                previous[row.lane] = one.inbox_id
                if not self._lanes.arrive(fresh, self._now(), previous=before, old=old):
                    self._behind = True
        self._changed()
        return frozenset(stored)

    async def refill(self) -> None:
        """Read what waits in the database, as far as there is room in memory."""
        async with self._lock:
            await self._read()
        self._changed()

    async def look(self) -> None:
        """Find what others have put into the inbox: all that was committed before this call.

        Afterwards it is in memory, or it waits behind the backlog like everything else.
        """
        async with self._lock:
            self._behind = True
            await self._read()
            await self._read_first_of_lanes()
        self._changed()

    @property
    def behind(self) -> bool:
        """Whether rows wait in the database that are not in memory."""
        return self._behind or self._lanes.overflowed

    @property
    def wants_refill(self) -> bool:
        """Whether reading from the database would bring something, and enough of it."""
        if self._lanes.room < max(self._lanes.capacity // 2, 1):
            return False
        return (self._behind and self._lanes.may_grow) or self._lanes.hungry() is not None

    async def _read(self) -> None:
        await self._read_hungry()
        while self._behind and self._lanes.room > 0 and self._lanes.may_grow:
            limit, known, full = self._lanes.room, self._lanes.known, self._lanes.overflowing()

            async def read(
                connection: AsyncConnection,
                limit: int = limit,
                known: Sequence[int] = known,
                full: dict[str, int] = full,
            ) -> list[InboxRow]:
                return await self._inbox.waiting(connection, limit, known=known, full=full)

            rows = await self._database.read(read)
            news = [self._lanes.add(row, self._now()) for row in rows]
            self._behind = len(rows) >= limit and any(news)  # a look finds the rest

    async def _read_hungry(self) -> None:
        """Half of the room is for lanes that have more waiting, the rest for the others."""
        budget = self._lanes.room // 2 if self._behind else self._lanes.room
        while budget > 0 and (name := self._lanes.hungry()) is not None:
            limit = min(self._lanes.per_lane, budget)

            async def read(connection: AsyncConnection, name: str = name, limit: int = limit) -> list[InboxRow]:
                return await self._inbox.waiting_in_lane(connection, name, limit, self._lanes.left)

            rows = await self._database.read(read)
            self._lanes.refill(name, rows, self._now(), complete=len(rows) < limit)
            budget -= max(len(rows), 1)

    async def _read_first_of_lanes(self) -> None:
        """What others have stored behind a backlog: a chat of which nothing else waits has its turn at once."""
        if not self._behind:
            self._seen = None
            return
        newest = await self._database.read(self._inbox.newest)
        seen, self._seen = self._seen, newest
        if seen is None or newest <= seen:
            return
        limit = self._lanes.reserve

        async def read(connection: AsyncConnection) -> list[InboxRow]:
            return await self._inbox.first_of_lanes(connection, seen, newest, limit)

        for row in await self._database.read(read):
            self._lanes.arrive(row, self._now(), previous=None)

    async def _insert_all(self, rows: Sequence[NewRow]) -> dict[str, Stored]:
        try:
            return await self._insert(rows)
        except Exception as error:
            if not data_refused(error):
                raise
            _log.warning("a batch was refused; storing row by row", rows=len(rows), error=brief(error))
        stored: dict[str, Stored] = {}
        for row in rows:
            stored |= await self._insert_alone(row)
        return stored

    async def _others(self, rows: Sequence[NewRow]) -> list[NewRow]:
        """Of updates whose number is known, those that are no repeats, each under a cause of its own."""
        if not rows:
            return []
        causes = [row.cause for row in rows]
        known = await self._database.read(lambda connection: self._inbox.known(connection, causes))
        others = [another(row) for row in rows if row.cause in known and not is_repeat(row, *known[row.cause])]
        for row in others:
            _log.warning("an update has the number of an earlier one; it is kept beside it", cause=row.cause)
        return others

    async def _insert(self, rows: Sequence[NewRow]) -> dict[str, Stored]:
        async def insert(connection: AsyncConnection) -> dict[str, Stored]:
            return await self._inbox.store(connection, rows)

        # Before the handlings that wait: what Telegram still holds comes only when this is committed.
        return await self._database.urgent(insert)

    async def _insert_alone(self, row: NewRow) -> dict[str, Stored]:
        try:
            return await self._insert([row])
        except Exception as error:
            if not data_refused(error):
                raise
            reason = brief(error)
        ids = await self._insert([harmless(row, reason)])
        _log.error("an update became a dead letter", cause=row.cause, error=reason)
        return ids
