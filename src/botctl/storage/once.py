"""Keys of what a bot's handlers do only once, each with the cause that did it. Kept for 30 days."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

KEEP_DAYS = 30
"""Days for which a key is remembered; Telegram repeats no update after one, the bus no event after seven."""


class OnceKeys:
    """The keys of one bot."""

    def __init__(self, bot_id: int) -> None:
        bot = f"{int(bot_id)}"
        self._holder = f"SELECT cause FROM once_keys WHERE bot_id = {bot} AND key = $1"
        self._add = f"""
            INSERT INTO once_keys (bot_id, key, cause) VALUES ({bot}, $1, $2)
            ON CONFLICT (bot_id, key) DO NOTHING"""

    async def holder(self, connection: AsyncConnection, key: str) -> str | None:
        """The cause that has taken this key, None if it is free."""
        row = (await connection.exec_driver_sql(self._holder, (key,))).first()
        return str(row[0]) if row is not None else None

    async def add(self, connection: AsyncConnection, key: str, cause: str) -> None:
        """This cause takes the key; it stays with whoever has it."""
        await connection.exec_driver_sql(self._add, (key, cause))


async def prune(connection: AsyncConnection, days: int = KEEP_DAYS) -> int:
    """Forget keys older than this, and requests of a week ago. For `control` only."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.prune_bus($1)", (days,))
    return int(result.scalar_one())
