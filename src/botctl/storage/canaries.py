"""Rows of a bot that there is not, which nobody must ever meet. For `control` only."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

CANARY_ID = -1
"""No login can have this number (migration 0007)."""


async def word(connection: AsyncConnection) -> str:
    """What stands in them and nowhere else; empty when they are gone."""
    result = await connection.exec_driver_sql(f"SELECT username FROM users WHERE bot_id = {CANARY_ID}")
    return str(result.scalar_one_or_none() or "")
