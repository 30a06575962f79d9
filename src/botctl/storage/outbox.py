"""The outbox: events committed together with what they tell of, until they have been relayed to the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.inbox import MOST_COUNTED
from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of the outbox; `seq` is 0 before it is stored, `occurred_at` in seconds since the epoch.

    `envelope` are the further keys of a request or a reply. `fault` says why its data can't be opened, if they are
    sealed and can't.
    """

    event_id: str
    type: str
    version: int
    occurred_at: float
    correlation_id: str
    causation_id: str
    data: dict[str, Any]
    seq: int = 0
    fault: str = ""
    envelope: dict[str, Any] | None = None


class Outbox:
    """The outbox of one bot, or of the fleet itself (bot_id 0). Data go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        self._add = f"""
            INSERT INTO outbox (bot_id, event_id, type, version, occurred_at, correlation_id, causation_id, data,
                                envelope)
            SELECT {bot}, event_id, type, version, occurred_at, correlation_id, causation_id, data::jsonb,
                   envelope::jsonb
            FROM unnest($1::text[], $2::text[], $3::int[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                        $8::text[])
                 WITH ORDINALITY
                 AS row (event_id, type, version, occurred_at, correlation_id, causation_id, data, envelope, position)
            ORDER BY position
            ON CONFLICT (bot_id, event_id) DO NOTHING"""
        self._pending = f"""
            SELECT seq, event_id, type, version, extract(epoch FROM occurred_at)::float8,
                   coalesce(correlation_id, ''), coalesce(causation_id, ''), data::text,
                   envelope::text
            FROM outbox WHERE bot_id = {bot} AND relayed_at IS NULL ORDER BY seq LIMIT $1"""
        self._relayed = f"""
            UPDATE outbox SET relayed_at = now()
            WHERE bot_id = {bot} AND seq = ANY($1::bigint[]) AND relayed_at IS NULL"""
        self._depth = f"""
            SELECT count(*) FROM
                (SELECT FROM outbox WHERE bot_id = {bot} AND relayed_at IS NULL LIMIT {MOST_COUNTED}) AS waiting"""

    async def add(self, connection: AsyncConnection, events: Sequence[StoredEvent]) -> None:
        """Store events in this order; one whose id is there already is the same event and is left alone."""
        if not events:
            return
        await connection.exec_driver_sql(
            self._add,
            (
                [event.event_id for event in events],
                [event.type for event in events],
                [event.version for event in events],
                [datetime.fromtimestamp(event.occurred_at, UTC) for event in events],
                [event.correlation_id for event in events],
                [event.causation_id for event in events],
                [self._sealing.json("outbox", "data", msgspec.json.encode(event.data).decode()) for event in events],
                [msgspec.json.encode(event.envelope).decode() if event.envelope else None for event in events],
            ),
        )

    async def pending(self, connection: AsyncConnection, limit: int) -> list[StoredEvent]:
        """The oldest events that have not been relayed."""
        rows: Any = (await connection.exec_driver_sql(self._pending, (limit,))).all()
        return [self._event(row) for row in rows]

    async def mark_relayed(self, connection: AsyncConnection, seqs: Sequence[int]) -> None:
        """These events are in the bot's out stream."""
        await connection.exec_driver_sql(self._relayed, (list(seqs),))

    async def depth(self, connection: AsyncConnection) -> int:
        """How many events wait for the relay; of more than MOST_COUNTED as many."""
        result = await connection.exec_driver_sql(self._depth)
        return int(result.scalar_one())

    def _event(self, row: Any) -> StoredEvent:
        seq, event_id, type_, version, occurred_at, correlation_id, causation_id, stored, envelope = row
        data, fault = {}, ""
        try:
            data = msgspec.json.decode(self._sealing.read_json("outbox", "data", stored))
        except VaultError as error:
            fault = error.message
        return StoredEvent(
            event_id=event_id,
            type=type_,
            version=version,
            occurred_at=float(occurred_at),
            correlation_id=correlation_id,
            causation_id=causation_id,
            data=data,
            seq=seq,
            fault=fault,
            envelope=msgspec.json.decode(envelope) if envelope else None,
        )


async def relay_again(connection: AsyncConnection, seconds: float, bot_id: int | None = None) -> int:
    """Events that were relayed within the last `seconds` are to be relayed again: of this bot, or of every one.

    For `control` only.
    """
    whose = "" if bot_id is None else f" AND bot_id = {int(bot_id)}"
    result = await connection.exec_driver_sql(
        f"UPDATE outbox SET relayed_at = NULL WHERE relayed_at > now() - make_interval(secs => $1){whose}", (seconds,)
    )
    return result.rowcount
