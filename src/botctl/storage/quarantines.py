"""Who is shut away on purpose, in the registry and at the database's door. For `control` only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Quarantined:
    """`by` is `operator` or `threat detection`; `until` None means until it is released. Seconds since the epoch."""

    at: float
    by: str
    reason: str
    until: float | None = None


async def read(connection: AsyncConnection) -> dict[int, Quarantined]:
    """By bot_id; removed bots included."""
    result = await connection.exec_driver_sql("SELECT bot_id, quarantine::text FROM bots WHERE quarantine IS NOT NULL")
    rows: Sequence[Any] = result.all()
    return {bot_id: msgspec.json.decode(told, type=Quarantined) for bot_id, told in rows}


async def save(connection: AsyncConnection, bot_id: int, quarantined: Quarantined | None) -> bool:
    """Remember it; None forgets it. The audit log has both, by the table's trigger. False for an unknown bot."""
    told = None if quarantined is None else msgspec.json.encode(asdict(quarantined)).decode()
    result = await connection.exec_driver_sql(
        "UPDATE bots SET quarantine = $2::text::jsonb, updated_at = now() WHERE bot_id = $1", (bot_id, told)
    )
    return bool(result.rowcount)


async def can_log_in(connection: AsyncConnection, bot_id: int) -> bool:
    """Whether the database lets the bot in."""
    result = await connection.exec_driver_sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", (f"bot_{bot_id}",))
    return bool(result.scalar_one_or_none())


async def shut_out(connection: AsyncConnection, bot_id: int) -> bool:
    """No session of the bot can begin any more. Commit, then `logins.end_sessions`. False when it has no login."""
    result = await connection.exec_driver_sql("SELECT botctl_admin.suspend_bot($1)", (bot_id,))
    return bool(result.scalar_one())
