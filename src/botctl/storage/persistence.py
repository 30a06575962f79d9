"""What handlers keep with python-telegram-bot's means: data of users, chats and the bot, states of conversations.

One row an owner, with all that is kept for it as a text; what is gone leaves an empty row, for nothing here may delete.
Never reads or makes such a text; the bot's `persistence_codec` does, and nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.sealing import UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class KeptRow:
    """What is kept for one owner. `value` None: nothing any more. `fault`: why what is sealed can't be opened."""

    kind: str
    owner: str
    value: str | None
    fault: str = ""


class KeptData:
    """The kept data of one bot. Values go through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        bot = f"{int(bot_id)}"
        self._put = f"""
            INSERT INTO kept_data (bot_id, kind, owner, value, gone, updated_at)
            SELECT {bot}, kind, owner, coalesce(value, ''), value IS NULL, now()
            FROM unnest($1::text[], $2::text[], $3::text[]) AS row (kind, owner, value)
            ON CONFLICT (bot_id, kind, owner)
            DO UPDATE SET value = excluded.value, gone = excluded.gone, updated_at = excluded.updated_at"""
        self._of = f"""
            SELECT kind, owner, value FROM kept_data
            WHERE bot_id = {bot} AND NOT gone
              AND (kind, owner) IN (SELECT * FROM unnest($1::text[], $2::text[]))"""
        self._some = f"""
            SELECT kind, owner, value FROM kept_data
            WHERE bot_id = {bot} AND NOT gone AND (kind, owner) > ($1, $2)
            ORDER BY kind, owner LIMIT $3"""

    async def put(self, connection: AsyncConnection, rows: Sequence[KeptRow]) -> None:
        """Store rows, each in place of what was kept for its owner."""
        if rows:
            await connection.exec_driver_sql(
                self._put,
                (
                    [row.kind for row in rows],
                    [row.owner for row in rows],
                    [self._sealing.text("kept_data", "value", row.value) for row in rows],
                ),
            )

    async def of(self, connection: AsyncConnection, owners: Sequence[tuple[str, str]]) -> list[KeptRow]:
        """What is kept for these owners, each a kind and an id."""
        result = await connection.exec_driver_sql(
            self._of, ([kind for kind, _ in owners], [owner for _, owner in owners])
        )
        return [self._row(values) for values in result]

    async def some(self, connection: AsyncConnection, after: tuple[str, str], limit: int) -> list[KeptRow]:
        """The next rows behind an owner, in order; the first one with `("", "")`."""
        result = await connection.exec_driver_sql(self._some, (*after, limit))
        return [self._row(values) for values in result]

    def _row(self, values: Any) -> KeptRow:
        kind, owner, value = values
        try:
            return KeptRow(kind, owner, self._sealing.read_text("kept_data", "value", value))
        except VaultError as error:
            return KeptRow(kind, owner, None, error.message)
