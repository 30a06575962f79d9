"""The audit log, as `control` uses it: append what no trigger sees, search, seal, forget. Rows are never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.audit_head import HeadLine


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row; `at` in seconds since the epoch, `bot_id` 0 for the fleet."""

    audit_id: int
    bot_id: int
    at: float
    actor: str
    action: str
    entity: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


async def record(
    connection: AsyncConnection,
    bot_id: int,
    action: str,
    entity: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Append a row; the actor is the login of the session. Never give it a secret."""
    await connection.exec_driver_sql(
        "SELECT botctl_internal.record_audit($1, $2, $3, $4::text::jsonb, $5::text::jsonb)",
        (bot_id, action, entity, _json(before), _json(after)),
    )


async def record_operator(
    connection: AsyncConnection, bot_id: int, operator: str, action: str, entity: str, after: dict[str, Any] | None
) -> None:
    """Append what an operator has commanded; the actor is `operator:NAME`, or `operator` without a name."""
    await connection.exec_driver_sql(
        "SELECT botctl_internal.record_operator($1, $2, $3, $4, NULL, $5::text::jsonb)",
        (bot_id, operator, action, entity, _json(after)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What to look for; None is anything. `action` and `entity` match as they begin, `text` anywhere in the entry."""

    bot_id: int | None = None
    actor: str | None = None
    action: str | None = None
    entity: str | None = None
    since: float | None = None
    until: float | None = None
    text: str | None = None


_COLUMNS = "audit_id, bot_id, extract(epoch FROM at)::float8, actor, action, entity, before::text, after::text"
_MATCHES = """
    ($1::bigint IS NULL OR bot_id = $1) AND ($2::text IS NULL OR starts_with(actor, $2))
    AND ($3::text IS NULL OR starts_with(action, $3)) AND ($4::text IS NULL OR starts_with(entity, $4))
    AND ($5::float8 IS NULL OR at >= to_timestamp($5)) AND ($6::float8 IS NULL OR at < to_timestamp($6))
    AND ($7::text IS NULL OR strpos(lower(concat_ws(' ', actor, action, entity, before, after)), lower($7)) > 0)
"""


async def search(connection: AsyncConnection, wanted: Search, limit: int) -> list[AuditEntry]:
    """The latest rows that match, newest first."""
    result = await connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM audit_log WHERE {_MATCHES} ORDER BY at DESC, audit_id DESC LIMIT $8",
        (*_parameters(wanted), limit),
    )
    return _read(result.all())


async def recent(connection: AsyncConnection, limit: int) -> list[AuditEntry]:
    """The latest rows, newest first."""
    return await search(connection, Search(), limit)


async def closed_until(connection: AsyncConnection) -> int:
    """Number of the transaction before which no other can still commit an entry."""
    result = await connection.exec_driver_sql(
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + botctl_internal.audit_offset()"
    )
    return int(result.scalar_one())


async def between(connection: AsyncConnection, wanted: Search, from_tx: int, to_tx: int) -> list[AuditEntry]:
    """The rows of these transactions that match, oldest first. Who follows so misses none and sees none twice."""
    result = await connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM audit_log WHERE {_MATCHES} AND tx >= $8 AND tx < $9 ORDER BY at, audit_id",
        (*_parameters(wanted), from_tx, to_tx),
    )
    return _read(result.all())


async def seal(connection: AsyncConnection) -> int:
    """Seal a batch of what can't change any more; how many entries, 0 when there is none to seal."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.seal_audit()")
    return int(result.scalar_one())


async def forget(connection: AsyncConnection, days: int) -> float | None:
    """Forget whole months older than `days`. The time before which nothing is kept now, None if there was nothing."""
    result = await connection.exec_driver_sql(
        "SELECT extract(epoch FROM botctl_internal.forget_audit($1))::float8", (days,)
    )
    value = result.scalar_one()
    return None if value is None else float(value)


async def seals_after(connection: AsyncConnection, seal: int, limit: int) -> list[HeadLine]:
    """The seals that follow one, as they are published."""
    result = await connection.exec_driver_sql(
        "SELECT seal, encode(digest, 'hex'), entries, extract(epoch FROM sealed_at)::text, kind FROM audit_seals"
        " WHERE bot_id = 0 AND seal > $1 ORDER BY seal LIMIT $2",
        (seal, limit),
    )
    rows: Sequence[Any] = result.all()
    return [HeadLine(*row) for row in rows]


async def seal_digest(connection: AsyncConnection, seal: int) -> str | None:
    """Digest of one seal; of one that was forgotten, as its retention has kept it. None if nobody knows it."""
    result = await connection.exec_driver_sql(
        "SELECT encode(CASE WHEN seal = $1 THEN digest ELSE forgotten_digest END, 'hex') FROM audit_seals"
        " WHERE bot_id = 0 AND (seal = $1 OR forgotten_seal = $1) ORDER BY seal = $1 DESC LIMIT 1",
        (seal,),
    )
    value = result.scalar_one_or_none()
    return None if value is None else str(value)


UNBORN_FROM = """(
    SELECT CASE WHEN told.ceiling < told.sealed THEN 9223372036854775807 ELSE told.ceiling END FROM (
        SELECT greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                        coalesce(pg_current_xact_id_if_assigned()::text::bigint + 1, 0))
               + botctl_internal.audit_offset() AS ceiling,
               (SELECT coalesce(max(next_tx), 0) FROM audit_seals WHERE bot_id = 0) AS sealed
    ) told)"""
"""SQL: from this number on there has been no transaction yet. In a database restored into another server, where numbers
are lower until the next start lifts them, there is no saying."""


async def unsealed(connection: AsyncConnection) -> tuple[float | None, int]:
    """When the oldest entry was written that waits for its seal, None if none does; and how many never get one, because
    their transactions have never been: only somebody who forges writes such."""
    result = await connection.exec_driver_sql(
        "SELECT extract(epoch FROM min(at) FILTER (WHERE tx < unborn))::float8, count(*) FILTER (WHERE tx >= unborn)"
        f" FROM audit_log, {UNBORN_FROM} AS of (unborn)"
        " WHERE tx >= (SELECT coalesce(max(to_tx), 0) FROM audit_seals WHERE bot_id = 0)"
    )
    row: Sequence[Any] = result.one()
    return None if row[0] is None else float(row[0]), int(row[1])


async def ensure_partitions(connection: AsyncConnection, months: int = 2) -> int:
    """Make this month's partition and those of the next months; returns how many were new."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.ensure_audit_partitions($1)", (months,))
    return int(result.scalar_one())


def _parameters(wanted: Search) -> tuple[Any, ...]:
    return (
        wanted.bot_id,
        wanted.actor,
        wanted.action,
        wanted.entity,
        wanted.since,
        wanted.until,
        wanted.text,
    )


def _read(rows: Sequence[Any]) -> list[AuditEntry]:
    return [AuditEntry(*[*row[:6], _object(row[6]), _object(row[7])]) for row in rows]


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
