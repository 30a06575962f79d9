"""The outbox: events committed together with what they tell of, until they have been relayed to the bus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.direct import later
from botctl.storage.inbox import MOST_COUNTED
from botctl.storage.sealing import UNSEALED, Sealing

ALL = 3600.0
"""Seconds of events that a server without our data has lost, as far back as they are kept for that (design §5)."""

UNDER_WAY = 2_000
"""Rows of a bot that its relay may have sent and not marked, and some more (`botctl.bus.pace`)."""


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

    def event_fields(self) -> dict[str, Any]:
        """The words that `botctl.bus.events.Event` is made of."""
        return {
            "id": self.event_id,
            "type": self.type,
            "version": self.version,
            "occurred_at": self.occurred_at,
            "correlation_id": self.correlation_id,
            "causation_id": self.causation_id,
            "data": self.data,
            **(self.envelope or {}),
        }


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
                   envelope::text, xmin::text
            FROM outbox WHERE bot_id = {bot} AND relayed_at IS NULL AND seq <> ALL ($2::bigint[])
            ORDER BY seq LIMIT $1"""
        self._relayed = f"""
            UPDATE outbox SET relayed_at = clock_timestamp()
            WHERE bot_id = {bot} AND seq = ANY($1::bigint[]) AND relayed_at IS NULL
              AND ($2::text[] IS NULL OR xmin::text = ANY($2))"""
        self._versions: list[str] | None = None
        """Of the rows read last: one that `relay_again` has touched since is another version, and stays due."""
        self._depth = f"""
            SELECT count(*) FROM
                (SELECT FROM outbox WHERE bot_id = {bot} AND relayed_at IS NULL LIMIT {MOST_COUNTED}) AS waiting"""

    async def add(self, connection: AsyncConnection, events: Sequence[StoredEvent]) -> None:
        """Store events in this order; one whose id is there already is the same event and is left alone."""
        if not events:
            return
        await later(
            connection,
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

    async def pending(self, connection: AsyncConnection, limit: int, without: Sequence[int] = ()) -> list[StoredEvent]:
        """The oldest events that have not been relayed, but those of these `seq`."""
        rows: Any = (await connection.exec_driver_sql(self._pending, (limit, list(without)))).all()
        self._versions = list({row[-1] for row in rows})
        return [self._event(row[:-1]) for row in rows]

    async def mark_relayed(self, connection: AsyncConnection, seqs: Sequence[int]) -> None:
        """These events, of those read last, are in the bot's out stream; unless they have become due again since."""
        await connection.exec_driver_sql(self._relayed, (list(seqs), self._versions))

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


async def relay_again(connection: AsyncConnection, seconds: float | None, bot_id: int | None = None) -> int:
    """Events that were relayed within the last `seconds` are to be relayed again: of this bot, or of every one.

    None: those of the last hour in which the bot relayed at all, for when nobody knows when the server lost its data.
    Returns how many. What a relay has under way is touched too, so that it can't be marked as relayed afterwards: it
    may have gone to the server that was lost. For `control` only.
    """
    if bot_id is None:
        bots = (await connection.exec_driver_sql("SELECT bot_id FROM bots UNION SELECT 0 ORDER BY 1")).scalars().all()
        return sum([await relay_again(connection, seconds, int(one)) for one in bots])
    # A bot may write any time into its rows: one in the future is no measure.
    since = (
        f"(SELECT max(relayed_at) FROM outbox WHERE bot_id = {int(bot_id)} AND relayed_at <= now())"
        f" - make_interval(secs => {ALL})"
        if seconds is None
        else f"now() - make_interval(secs => {float(seconds)})"
    )
    result = await connection.exec_driver_sql(
        f"""
        WITH due AS (
            UPDATE outbox SET relayed_at = NULL
            WHERE bot_id = {int(bot_id)} AND (relayed_at > {since} OR seq = ANY (ARRAY(
                SELECT seq FROM outbox WHERE bot_id = {int(bot_id)} AND relayed_at IS NULL ORDER BY seq LIMIT $1)))
            RETURNING 1
        ), waiting AS (
            SELECT FROM outbox WHERE bot_id = {int(bot_id)} AND relayed_at IS NULL ORDER BY seq LIMIT $1
        )
        SELECT (SELECT count(*) FROM due) - (SELECT count(*) FROM waiting)""",
        (UNDER_WAY,),
    )
    return int(result.scalar_one())


async def due_again(connection: AsyncConnection, bot_id: int, event_ids: Sequence[str]) -> set[str]:
    """Those of these events that are in the bot's outbox are to be relayed again, and are returned. For `control`."""
    result = await connection.exec_driver_sql(
        f"UPDATE outbox SET relayed_at = NULL WHERE bot_id = {int(bot_id)} AND event_id = ANY ($1::text[])"
        " RETURNING event_id",
        (list(event_ids),),
    )
    return {str(row[0]) for row in result}


async def left_behind(connection: AsyncConnection) -> list[int]:
    """Removed bots whose outboxes have events that were not relayed. For `control`."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id FROM bots WHERE removed_at IS NOT NULL"
        " AND EXISTS (SELECT FROM outbox WHERE outbox.bot_id = bots.bot_id AND relayed_at IS NULL) ORDER BY bot_id"
    )
    return [int(bot_id) for bot_id in result.scalars()]
