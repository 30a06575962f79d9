"""The way into the inbox and out of it into the lanes: what is stored, and what of it is in memory.

Storing and reading exclude each other, so that no row can slip between a read of the database and the rows that are
put into memory right after their commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.faults import brief, database_away
from botctl.bot.lanes import Lanes
from botctl.storage.inbox import Inbox, InboxRow, NewRow

_log = structlog.get_logger("botctl.bot.intake")
_READ = 200


class Intake:
    """Owns the order of arrival. `changed` is called when the lanes may have more to give."""

    def __init__(
        self, database: Database, inbox: Inbox, lanes: Lanes, changed: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._lanes = lanes
        self._changed = changed
        self._now = now
        self._lock = asyncio.Lock()
        self._cursor = 0
        self._behind = True
        """Whether rows wait in the database that are not in memory; at the start, nobody knows."""

    async def store(self, rows: Sequence[NewRow]) -> frozenset[str]:
        """Commit rows; returns the causes that are new. Waits as long as the database is away.

        Rows the database refuses together are stored one by one, and one it refuses alone becomes a dead letter, so
        that nothing keeps the others out.
        """
        if not rows:
            return frozenset()
        async with self._lock:
            try:
                ids = await self._insert(rows)
            except Exception as error:
                _log.warning("a batch was refused; storing row by row", rows=len(rows), error=brief(error))
                ids = {}
                for row in rows:
                    ids |= await self._insert_alone(row)
            if len(ids) < len(rows):
                # They were there already: handled, in memory, or just now stored by an INSERT whose answer was lost
                # and which was then repeated. The database knows; nothing that comes later may overtake them.
                self._behind = True
            for row in rows:
                inbox_id = ids.get(row.cause)
                if inbox_id is not None and row.dead is None:
                    self._remember(row, inbox_id)
        self._changed()
        return frozenset(ids)

    async def refill(self) -> None:
        """Read what waits in the database, as far as there is room in memory."""
        async with self._lock:
            while self._behind and self._lanes.room > 0:
                limit = min(self._lanes.room, _READ)
                after = self._cursor

                async def read(connection: AsyncConnection, after: int = after, limit: int = limit) -> list[InboxRow]:
                    return await self._inbox.waiting(connection, after, limit)

                rows = await self._database.statement(read)
                for row in rows:
                    self._lanes.add(row, self._now())
                    self._cursor = row.inbox_id
                self._behind = len(rows) >= limit
            while (hungry := self._lanes.hungry()) is not None:
                await self._refill_lane(*hungry)
        self._changed()

    @property
    def behind(self) -> bool:
        """Whether rows wait in the database that are not in memory."""
        return self._behind or self._lanes.overflowed

    @property
    def wants_refill(self) -> bool:
        """Whether reading from the database would bring something."""
        return (self._behind and self._lanes.room >= _READ // 2) or self._lanes.hungry() is not None

    async def _refill_lane(self, lane: str, after: int) -> None:
        limit = self._lanes.per_lane

        async def read(connection: AsyncConnection) -> list[InboxRow]:
            return await self._inbox.waiting_in_lane(connection, lane, after, limit)

        rows = await self._database.statement(read)
        self._lanes.refill(lane, rows, self._now(), complete=len(rows) < limit)

    def _remember(self, row: NewRow, inbox_id: int) -> None:
        if self._behind or self._lanes.room <= 0:
            self._behind = True
            return
        self._cursor = max(self._cursor, inbox_id)
        fresh = InboxRow(inbox_id, row.cause, row.kind, row.lane, row.payload, row.trace_id, replayed=False)
        self._lanes.add(fresh, self._now())

    async def _insert(self, rows: Sequence[NewRow]) -> dict[str, int]:
        async def insert(connection: AsyncConnection) -> dict[str, int]:
            return await self._inbox.add(connection, rows)

        return await self._database.statement(insert)

    async def _insert_alone(self, row: NewRow) -> dict[str, int]:
        try:
            return await self._insert([row])
        except Exception as error:
            if database_away(error):
                raise
            reason = brief(error)
        # The payload itself is what the database refuses: keep it as a text that it can't refuse.
        ascii_payload = row.payload.encode("ascii", "backslashreplace").decode().replace("\\", "\\\\")
        harmless = "".join(character for character in ascii_payload if character.isprintable()).replace('"', '\\"')
        dead = NewRow(row.cause, row.update_id, row.kind, row.lane, f'{{"raw": "{harmless}"}}', row.trace_id, reason)
        try:
            ids = await self._insert([dead])
        except Exception as error:
            _log.error("an update can't be stored at all and is dropped", cause=row.cause, error=brief(error))
            return {}
        _log.error("an update became a dead letter", cause=row.cause, error=reason)
        return ids
