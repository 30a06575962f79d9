"""The bot's outbox as its relay wants it; waits while the database is away.

An event whose data can't be opened (its key is missing) is told, left where it is and passed by: with its key back, it
goes at the bot's next start. Never marks what was not sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import event_of
from botctl.bus.events import Event
from botctl.errors import VaultError
from botctl.storage.outbox import Outbox

_log = structlog.get_logger("botctl.bot.bus")

MOST_PASSED_BY = 1_000
"""Events that can't be opened and are passed by; with more of them the outbox waits as a whole."""


@dataclass(frozen=True)
class _Row:
    seq: int
    event: Event


class WaitingEvents:
    """An `OutboxPort` (`botctl.bus.relay`)."""

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database = database
        self._outbox = outbox
        self._closed: set[int] = set()
        """`seq` of those that can't be opened."""

    async def pending(self, limit: int) -> Sequence[_Row]:
        """The oldest rows that can be sent. Raises VaultError when too many can't be opened."""
        while True:
            passed_by = sorted(self._closed)
            rows = await self._database.statement(
                lambda connection, without=passed_by: self._outbox.pending(connection, limit, without)  # type: ignore[misc]
            )
            for row in rows:
                if row.fault:
                    if len(self._closed) >= MOST_PASSED_BY:
                        raise VaultError(f"more than {MOST_PASSED_BY} events can't be opened: {row.fault}")
                    self._closed.add(row.seq)
                    _log.error("an event can't be opened and waits", id=row.event_id, type=row.type, why=row.fault)
            good = [_Row(row.seq, event_of(row)) for row in rows if not row.fault]
            if good or not rows:
                return good

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """These are in the out stream."""
        await self._database.statement(lambda connection: self._outbox.mark_relayed(connection, seqs))
