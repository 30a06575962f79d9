"""The audit log, as `control` uses it: append what no trigger sees, read the latest. Rows are never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row; `at` in seconds since the epoch, `bot_id` 0 for the fleet."""

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


async def recent(connection: AsyncConnection, limit: int) -> list[AuditEntry]:
    """The latest rows, newest first."""
    result = await connection.exec_driver_sql(
        "SELECT bot_id, extract(epoch FROM at)::float8, actor, action, entity, before::text, after::text"
        " FROM audit_log ORDER BY at DESC, audit_id DESC LIMIT $1",
        (limit,),
    )
    rows: Sequence[Any] = result.all()
    return [
        AuditEntry(bot_id, at, actor, action, entity, _object(before), _object(after))
        for bot_id, at, actor, action, entity, before, after in rows
    ]


async def ensure_partitions(connection: AsyncConnection, months: int = 2) -> int:
    """Make this month's partition and those of the next months; returns how many were new."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.ensure_audit_partitions($1)", (months,))
    return int(result.scalar_one())


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _object(text: str | None) -> dict[str, Any] | None:
    return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
