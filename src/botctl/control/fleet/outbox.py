"""The fleet's own outbox (bot_id 0), as the relay wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.events import Event
from botctl.storage.outbox import Outbox


@dataclass(frozen=True, slots=True)
class FleetOutboxRow:
    """An event and its place in the outbox."""

    seq: int
    event: Event


class FleetOutbox:
    """Reads and marks over an engine. Both methods raise what the database raises."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._outbox = Outbox(0)

    async def pending(self, limit: int) -> list[FleetOutboxRow]:
        """The oldest rows that were not relayed."""
        async with self._engine.connect() as connection:
            stored = await self._outbox.pending(connection, limit)
        return [
            FleetOutboxRow(
                one.seq,
                Event(
                    id=one.event_id,
                    type=one.type,
                    version=one.version,
                    occurred_at=one.occurred_at,
                    correlation_id=one.correlation_id,
                    causation_id=one.causation_id,
                    data=one.data,
                ),
            )
            for one in stored
        ]

    async def mark_relayed(self, seqs: Sequence[int]) -> None:
        """These rows are in the out stream."""
        async with self._engine.begin() as connection:
            await self._outbox.mark_relayed(connection, seqs)
