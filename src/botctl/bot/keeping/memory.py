"""The committed data of handlers in memory, in front of its table, and the commit of what attempts have changed.

Holds all of it as long as that is little; beyond, what was used lately, and an update's own is read before it is
handled. This process alone writes it, so what was read or committed stays true.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

import structlog
import telegram
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.handling.scope import active
from botctl.bot.keeping.codec import UnreadableError
from botctl.bot.keeping.drafts import BOT, Draft, Kept, Owner, merged, read_kept
from botctl.errors import VaultError
from botctl.storage.persistence import KeptData, KeptRow

_log = structlog.get_logger("botctl.bot.keeping.persistence")

MOST_OWNERS = 20_000
MOST_BYTES = 16 << 20
"""Of what is held in memory."""

_PAGE = 2000
_MOST_TOLD = 1000


class KeptMemory:
    """`bot` is given to Telegram's objects that are read, for their shortcuts."""

    def __init__(
        self,
        database: Database,
        data: KeptData,
        *,
        most_owners: int = MOST_OWNERS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.bot: telegram.Bot | None = None
        self.whole = False
        """Whether all that is kept is in memory."""
        self._database = database
        self._data = data
        self._most_owners = most_owners
        self._most_bytes = most_bytes
        self._held: OrderedDict[Owner, Kept] = OrderedDict({BOT: Kept()})
        self._bytes = Kept().size
        self._locks: WeakValueDictionary[Owner, asyncio.Lock] = WeakValueDictionary()
        self._faults: dict[Owner, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._around = self.draft()

    def draft(self) -> Draft:
        """A new draft of everything."""
        return Draft(self.kept, self._tell, self.bot)

    @property
    def current(self) -> Draft:
        """The draft of what is handled now; outside of any handling the one that `flush` commits."""
        scope = active()
        if scope is None:
            return self._around
        if scope.draft is None:
            scope.draft = self.draft()
        return scope.draft

    def kept(self, owner: Owner) -> Kept | None:
        """What is committed for an owner; None when it is not in memory. Raises VaultError when it can't be read."""
        if owner in self._faults:
            raise VaultError(self._faults[owner])
        found = self._held.get(owner)
        if found is not None:
            self._held.move_to_end(owner)
            return found
        return Kept() if self.whole or owner[0] == "transient" else None

    def owners(self, kind: str) -> list[str]:
        """Ids of one kind of which something is in memory."""
        return [owner for (one, owner), kept in self._held.items() if one == kind and (kept.texts or kept.live)]

    async def open(self) -> None:
        """Read what is kept, the bot's own first, as far as it is held in memory."""
        after: Owner = ("", "")
        while True:
            last = after

            async def read(connection: AsyncConnection, after: Owner = last) -> list[KeptRow]:
                return await self._data.some(connection, after, _PAGE)

            rows = await self._database.read(read)
            for row in rows:
                if len(self._held) >= self._most_owners or self._bytes >= self._most_bytes:
                    _log.info("more is kept than memory holds; the rest is read when it is needed")
                    return
                if (kept := self._read(row)) is not None:
                    self._hold((row.kind, row.owner), kept)
                    self._around.found((row.kind, row.owner), kept)
                after = (row.kind, row.owner)
            if len(rows) < _PAGE:
                self.whole = True
                return

    async def bring(self, owners: Iterable[Owner]) -> None:
        """Have what is kept for these in the current draft, however little else memory holds."""
        draft = self.current
        for owner, kept in (await self.load(owners)).items():
            draft.bring(owner, kept)

    async def load(self, owners: Iterable[Owner]) -> dict[Owner, Kept]:
        """Have what is kept for these in memory, as long as there is room; what it is, but for what can't be read."""
        known = {owner: self.kept(owner) for owner in owners if owner not in self._faults}
        missing = [owner for owner, kept in known.items() if kept is None]
        found = {owner: kept for owner, kept in known.items() if kept is not None}
        if not missing:
            return found
        found |= {owner: Kept() for owner in missing}
        for row in await self._database.read(lambda connection: self._data.of(connection, missing)):
            owner = (row.kind, row.owner)
            if (kept := self._read(row)) is not None:
                found[owner] = kept
            else:
                del found[owner]
        for owner in missing:
            if owner in found:
                self._hold(owner, found[owner])
        return found

    @asynccontextmanager
    async def ending(self, draft: Draft | None) -> AsyncIterator[Sequence[KeptRow]]:
        """The rows that an attempt's changes make, to be stored in the transaction that is made inside.

        When that has been committed, the changes are everybody's. Who has changed the same waits for it, so that the
        order of commits is the order in memory.
        """
        changes = draft.changes() if draft is not None and draft.touched else []
        if not changes:
            yield ()
            return
        async with AsyncExitStack() as stack:
            for change in changes:
                lock = self._locks.get(change.owner)
                if lock is None:
                    lock = self._locks[change.owner] = asyncio.Lock()
                await stack.enter_async_context(lock)
            read = await self.load(change.owner for change in changes if not change.emptied)
            made: dict[Owner, Kept] = {}
            for change in changes:
                # What is dropped may be anything, also what can't be read.
                before = Kept() if change.emptied else read.get(change.owner) or self.kept(change.owner)
                assert before is not None
                made[change.owner] = merged(before, change, self.bot)
            yield [
                KeptRow(*owner, kept.text)
                for owner, kept in made.items()
                if owner[0] != "transient" and self._is_news(owner, kept)
            ]
            for change in changes:
                kept = made[change.owner]
                self._faults.pop(change.owner, None)
                self._hold(change.owner, kept)
                if draft is self._around:
                    self._around.settle(change, kept)
                else:
                    self._around.absorb(change, kept)

    async def flush(self) -> None:
        """Commit what was changed outside of any handling. Raises VaultError."""
        async with self.ending(self._around) as rows:
            if rows:
                await self._database.statement(lambda connection: self._data.put(connection, rows))
        self._around.forget()

    async def store(self, connection: AsyncConnection, rows: Sequence[KeptRow]) -> None:
        """Store the rows of an `ending`."""
        if rows:
            await self._data.put(connection, rows)

    def _is_news(self, owner: Owner, kept: Kept) -> bool:
        before = None if owner in self._faults else self.kept(owner)
        return before is None or before.texts != kept.texts

    def _read(self, row: KeptRow) -> Kept | None:
        """None for what can't be read: it stays as it is, and whoever needs it fails and says why."""
        try:
            if not row.fault:
                return read_kept(row.value)
            why = row.fault
        except UnreadableError as error:
            why = f"what was kept can't be read: {error}"
        _log.error("kept data can't be read", kind=row.kind, owner=row.owner, why=why)
        self._faults[row.kind, row.owner] = why
        return None

    def _hold(self, owner: Owner, kept: Kept) -> None:
        before = self._held.pop(owner, None)
        self._bytes += kept.size - (before.size if before is not None else 0)
        self._held[owner] = kept
        if len(self._held) <= self._most_owners and self._bytes <= self._most_bytes:
            return
        for old in list(self._held):
            if len(self._held) <= self._most_owners and self._bytes <= self._most_bytes:
                break
            if old in (BOT, owner) or self._held[old].live:
                continue  # what can't be stored is nowhere else
            if self._held[old].texts:
                self.whole = False
            self._bytes -= self._held.pop(old).size

    def _tell(self, place: str, what: str) -> None:
        if (place, what) in self._told or len(self._told) >= _MOST_TOLD:
            return
        self._told.add((place, what))
        if what.startswith("can't be read"):
            _log.error("a kept value can't be read and is left alone", place=place, why=what)
        else:
            _log.warning("can't be stored: kept in memory only, and gone with this process", place=place, type=what)
