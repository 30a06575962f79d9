"""Counts over all bots that must survive a bot's death: they are read from the journal, not from a process's memory."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

# Both are answered from partial indexes that hold the rare rows only.
_UNCERTAIN = "SELECT bot_id, sum(uncertain)::bigint FROM sends WHERE uncertain > 0 GROUP BY bot_id"
_DEAD = "SELECT bot_id, count(*) FROM inbox WHERE state = 'dead' GROUP BY bot_id"


async def uncertain_sends(connection: AsyncConnection) -> dict[int, int]:
    """How often a send's outcome was hidden, by bot_id; bots without such a case are left out."""
    return await _counts(connection, _UNCERTAIN)


async def dead_letters(connection: AsyncConnection) -> dict[int, int]:
    """How many inbox rows have been given up, by bot_id; bots without are left out."""
    return await _counts(connection, _DEAD)


async def _counts(connection: AsyncConnection, query: str) -> dict[int, int]:
    result: Any = await connection.exec_driver_sql(query)
    return {int(bot_id): int(count) for bot_id, count in result.all()}
