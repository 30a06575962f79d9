"""Counts over all bots that must survive a bot's death: they are read from the journal, not from a process's memory."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

# All are answered from partial indexes that hold the rare rows only. Counters that only rise add what was forgotten, in
# one statement: `forgotten` and the rows that go change in one transaction.
_UNCERTAIN = """
    SELECT bot_id, sum(n)::bigint FROM (
        SELECT bot_id, sum(uncertain) AS n FROM sends WHERE uncertain > 0 GROUP BY bot_id
        UNION ALL SELECT bot_id, sends_uncertain FROM forgotten
    ) counted GROUP BY bot_id HAVING sum(n) > 0"""
_DEAD = "SELECT bot_id, count(*) FROM inbox WHERE state = 'dead' GROUP BY bot_id"
_EVER_DEAD = """
    SELECT bot_id, sum(n)::bigint FROM (
        SELECT bot_id, count(*) AS n FROM inbox WHERE state = 'dead' GROUP BY bot_id
        UNION ALL SELECT bot_id, count(*) FROM inbox WHERE state = 'dropped' GROUP BY bot_id
        UNION ALL SELECT bot_id, count(*) FROM attempts WHERE outcome = 'retried' GROUP BY bot_id
        UNION ALL SELECT bot_id, dead_letters FROM forgotten
    ) counted GROUP BY bot_id HAVING sum(n) > 0"""


async def uncertain_sends(connection: AsyncConnection) -> dict[int, int]:
    """How often a send's outcome was ever hidden, by bot_id; bots without such a case are left out."""
    return await _counts(connection, _UNCERTAIN)


async def dead_letters(connection: AsyncConnection) -> dict[int, int]:
    """How many inbox rows are given up and wait for an operator, by bot_id; bots without are left out."""
    return await _counts(connection, _DEAD)


async def dead_letters_ever(connection: AsyncConnection) -> dict[int, int]:
    """How many inbox rows were ever given up, with those that were retried, dropped or forgotten, by bot_id."""
    return await _counts(connection, _EVER_DEAD)


async def _counts(connection: AsyncConnection, query: str) -> dict[int, int]:
    result: Any = await connection.exec_driver_sql(query)
    return {int(bot_id): int(count) for bot_id, count in result.all()}
