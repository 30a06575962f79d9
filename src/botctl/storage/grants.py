"""Who outside the fleet may read which logs. For `control` only. No password is here, only its hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """One row. `group_key` is the half of the group's name that can't be guessed; `start_id` where the group begins.

    `granted_at` in seconds since the epoch; the database sets it.
    """

    name: str
    logs: tuple[str, ...]
    group_name: str
    group_key: str = field(repr=False)
    password_sha256: str = field(repr=False)
    start_id: str
    granted_at: float = 0.0


async def read(connection: AsyncConnection) -> list[StoredGrant]:
    """Every grant that stands, by name."""
    result = await connection.exec_driver_sql(
        "SELECT name, logs, group_name, group_key, password_sha256, start_id, extract(epoch FROM granted_at)::float8"
        " FROM bus_grants WHERE bot_id = 0 AND revoked_at IS NULL ORDER BY name"
    )
    rows: Sequence[Any] = result.all()
    return [StoredGrant(row[0], tuple(row[1]), *row[2:]) for row in rows]


async def save(connection: AsyncConnection, grant: StoredGrant) -> bool:
    """Store a new one, also in the place of one of this name that was revoked. False if one of this name stands."""
    result = await connection.exec_driver_sql(
        "INSERT INTO bus_grants (name, logs, group_name, group_key, password_sha256, start_id)"
        " VALUES ($1, $2::text[], $3, $4, $5, $6)"
        " ON CONFLICT (bot_id, name) DO UPDATE SET logs = excluded.logs, group_name = excluded.group_name,"
        " group_key = excluded.group_key, password_sha256 = excluded.password_sha256, start_id = excluded.start_id,"
        " granted_at = now(), revoked_at = NULL WHERE bus_grants.revoked_at IS NOT NULL",
        (
            grant.name,
            list(grant.logs),
            grant.group_name,
            grant.group_key,
            grant.password_sha256,
            grant.start_id,
        ),
    )
    return bool(result.rowcount)


async def revoke(connection: AsyncConnection, name: str) -> bool:
    """It stands no more. False if there is none of this name."""
    result = await connection.exec_driver_sql(
        "UPDATE bus_grants SET revoked_at = now() WHERE bot_id = 0 AND name = $1 AND revoked_at IS NULL", (name,)
    )
    return bool(result.rowcount)
