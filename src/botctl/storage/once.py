"""Keys of what a bot's handlers do only once, each with the cause that did it. Kept for 30 days."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

KEEP_DAYS = 30
"""Days for which a key is remembered; Telegram repeats no update after one, the bus no event after seven."""


class OnceKeys:
    """The keys of one bot. One is held by its cause until that is handled, and then taken for good."""

    def __init__(self, bot_id: int) -> None:
        bot = f"{int(bot_id)}"
        self._take = f"""
            INSERT INTO once_keys AS kept (bot_id, key, cause, state) VALUES ({bot}, $1, $2, $3)
            ON CONFLICT (bot_id, key) DO UPDATE
            SET cause = excluded.cause, at = now(), state = CASE kept.state WHEN 'taken' THEN 'taken' ELSE $3 END
            WHERE kept.state = 'free' OR kept.cause = excluded.cause
            RETURNING key"""
        self._look = f"SELECT state, cause FROM once_keys WHERE bot_id = {bot} AND key = $1"
        self._keep = f"UPDATE once_keys SET state = 'taken' WHERE bot_id = {bot} AND cause = $1 AND state = 'held'"
        self._release = f"UPDATE once_keys SET state = 'free' WHERE bot_id = {bot} AND cause = $1 AND state = 'held'"

    async def take(self, connection: AsyncConnection, key: str, cause: str, *, for_good: bool) -> bool:
        """Whether the key is this cause's, now or since before."""
        state = "taken" if for_good else "held"
        return (await connection.exec_driver_sql(self._take, (key, cause, state))).first() is not None

    async def look(self, connection: AsyncConnection, key: str) -> tuple[str, str]:
        """`held`, `taken` or `free`, and the cause that has the key."""
        row: Any = (await connection.exec_driver_sql(self._look, (key,))).first()
        return (str(row[0]), str(row[1])) if row is not None else ("free", "")

    async def keep(self, connection: AsyncConnection, cause: str) -> None:
        """The cause has been handled: what it holds is taken for good."""
        await connection.exec_driver_sql(self._keep, (cause,))

    async def release(self, connection: AsyncConnection, cause: str) -> None:
        """Its handling has failed: what it holds is free."""
        await connection.exec_driver_sql(self._release, (cause,))


async def prune(connection: AsyncConnection, days: int = KEEP_DAYS) -> int:
    """Forget keys older than this, and requests of a week ago. For `control` only."""
    result = await connection.exec_driver_sql("SELECT botctl_internal.prune_bus($1)", (days,))
    return int(result.scalar_one())
