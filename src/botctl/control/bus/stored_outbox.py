"""An outbox that has no bot's process to relay it, as the relay wants it: the fleet's own, or a removed bot's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.events import Event
from botctl.storage.outbox import Outbox
from botctl.storage.sealing import UNSEALED, Sealing

_log = structlog.get_logger("botctl.control.bus.outbox")


@dataclass(frozen=True, slots=True)
class StoredOutboxRow:
    """An event and its place in the outbox."""

    seq: int
    event: Event


class StoredOutbox:
    """Reads and marks over an engine; what can't be opened with `sealing` is told, passed by and left where it is.

    Both methods raise what the database raises.
    """

    def __init__(self, engine: AsyncEngine, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self.closed: set[int] = set()
        """`seq` of those that can't be opened."""
        self._engine = engine
        self._outbox = Outbox(bot_id, sealing)

    async def pending(self, limit: int) -> list[StoredOutboxRow]:
        """The oldest rows that were not relayed."""
        while True:
            async with self._engine.connect() as connection:
                stored = await self._outbox.pending(connection, limit, sorted(self.closed))
            for one in stored:
                if one.fault:
                    self.closed.add(one.seq)
                    _log.error("an event can't be opened and waits", id=one.event_id, type=one.type, why=one.fault)
            good = [StoredOutboxRow(one.seq, Event(**one.event_fields())) for one in stored if not one.fault]
            if good or not stored:
                return good

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """These rows are in the out stream."""
        async with self._engine.begin() as connection:
            await self._outbox.mark_relayed(connection, seqs)
