"""Requests that a bot has made of others, with their replies, so that a replay of a cause asks nothing twice.

A request's id is made from its cause; whoever has made it before finds here what has become of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.sealing import UNSEALED, Sealing


class RequestState(StrEnum):
    """`VOID`: the handling that made it has failed with it; the next attempt asks anew."""

    WAITING = "waiting"
    ANSWERED = "answered"
    REFUSED = "refused"
    EXPIRED = "expired"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One of them. `deadline` in seconds since the epoch; `reply` is the answer, or why there is none with `error`."""

    request_id: str
    state: RequestState
    deadline: float
    reply: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What came for a request, from a bot known by `source` (`bot:<id>`, or `fleet`) and by `name`."""

    request_id: str
    source: str
    name: str
    reply: dict[str, Any]
    error: str


class Requests:
    """The requests of one bot. Replies go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        columns = (
            "request_id, state, extract(epoch FROM deadline)::float8, coalesce(reply::text, '{}'), coalesce(error, '')"
        )
        self._add = f"""
            INSERT INTO requests (bot_id, request_id, cause, target, type, state, deadline, trace_id)
            VALUES ({bot}, $1, $2, $3, $4, 'waiting', $5, $6)
            ON CONFLICT (bot_id, request_id) DO NOTHING"""
        self._find = f"SELECT {columns} FROM requests WHERE bot_id = {bot} AND request_id = ANY($1::text[])"
        # Whom it has asked only the bot itself knows: nobody else's answer counts, but the router's in the fleet's name
        self._answer = f"""
            UPDATE requests SET state = CASE WHEN came.error = '' THEN 'answered' ELSE 'refused' END,
                                reply = came.reply::jsonb, error = nullif(came.error, ''), answered_at = now()
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
                 AS came (request_id, source, name, reply, error)
            WHERE bot_id = {bot} AND requests.request_id = came.request_id AND state = 'waiting'
              AND (came.source = 'fleet' OR target IN (came.name, came.source, substr(came.source, 5)))
            RETURNING requests.request_id"""
        self._expire = f"""
            UPDATE requests SET state = 'expired', answered_at = now()
            WHERE bot_id = {bot} AND request_id = $1 AND state = 'waiting'"""
        self._void = f"""
            UPDATE requests SET state = 'void'
            WHERE bot_id = {bot} AND cause = $1 AND state IN ('refused', 'expired')"""

    async def add(
        self,
        connection: AsyncConnection,
        request_id: str,
        cause: str,
        target: str,
        type_: str,
        deadline: float,
        trace_id: str,
    ) -> StoredRequest:
        """Note a request, unless it is there; what is there. Raises VaultError for a reply that can't be opened."""
        at = datetime.fromtimestamp(deadline, UTC)
        await connection.exec_driver_sql(self._add, (request_id, cause, target, type_, at, trace_id))
        return (await self.find(connection, [request_id]))[request_id]

    async def find(self, connection: AsyncConnection, request_ids: Sequence[str]) -> dict[str, StoredRequest]:
        """Those of these ids that there are. Raises VaultError."""
        rows: Any = (await connection.exec_driver_sql(self._find, (list(request_ids),))).all()
        return {
            request_id: StoredRequest(
                request_id,
                RequestState(state),
                float(deadline),
                msgspec.json.decode(self._sealing.read_json("requests", "reply", reply)),
                error,
            )
            for request_id, state, deadline, reply, error in rows
        }

    async def answer(self, connection: AsyncConnection, replies: Sequence[StoredReply]) -> frozenset[str]:
        """Store replies; the ids of the requests that waited for one from there."""
        if not replies:
            return frozenset()
        result: Any = await connection.exec_driver_sql(
            self._answer,
            (
                [one.request_id for one in replies],
                [one.source for one in replies],
                [one.name for one in replies],
                [self._sealing.json("requests", "reply", msgspec.json.encode(one.reply).decode()) for one in replies],
                [one.error for one in replies],
            ),
        )
        return frozenset(row[0] for row in result.all())

    async def expire(self, connection: AsyncConnection, request_id: str) -> bool:
        """Nobody waits for it any more; False if a reply was there before."""
        return bool((await connection.exec_driver_sql(self._expire, (request_id,))).rowcount)

    async def void(self, connection: AsyncConnection, cause: str) -> None:
        """The next attempt at this cause makes those of its requests anew that brought no answer."""
        await connection.exec_driver_sql(self._void, (cause,))
