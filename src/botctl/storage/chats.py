"""What is known of chats beside their messages: which can't be reached, and which groups have become supergroups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class KnownChats:
    """`unreachable`: chat -> why, the newest last; `moved`: old chat -> new chat."""

    unreachable: dict[int, str]
    moved: dict[int, int]


class Chats:
    """The states of one bot's chats."""

    def __init__(self, bot_id: int) -> None:
        bot = f"{int(bot_id)}"
        self._known = f"""
            SELECT chat_id, unreachable, moved_to FROM chat_states
            WHERE bot_id = {bot} AND (unreachable IS NOT NULL OR moved_to IS NOT NULL)
            ORDER BY since DESC LIMIT $1"""
        self._lost = f"""
            INSERT INTO chat_states AS known (bot_id, chat_id, unreachable, since) VALUES ({bot}, $1, $2, now())
            ON CONFLICT (bot_id, chat_id) DO UPDATE SET unreachable = excluded.unreachable, since = now()
            WHERE known.unreachable IS NULL
            RETURNING chat_id"""
        self._found = f"""
            UPDATE chat_states SET unreachable = NULL, since = now()
            WHERE bot_id = {bot} AND chat_id = $1 AND unreachable IS NOT NULL
            RETURNING chat_id"""
        self._moved = f"""
            INSERT INTO chat_states AS known (bot_id, chat_id, moved_to, since) VALUES ({bot}, $1, $2, now())
            ON CONFLICT (bot_id, chat_id) DO UPDATE SET moved_to = excluded.moved_to, unreachable = NULL, since = now()
            WHERE known.moved_to IS DISTINCT FROM excluded.moved_to
            RETURNING chat_id"""
        # A conversation that was begun in the new chat already goes on there; the old one is closed.
        self._close = f"""
            UPDATE conversations AS old SET closed_at = now()
            WHERE old.bot_id = {bot} AND old.chat_id = $1 AND old.closed_at IS NULL AND EXISTS (
                SELECT FROM conversations AS new WHERE new.bot_id = {bot} AND new.chat_id = $2
                AND new.thread_id = old.thread_id AND new.closed_at IS NULL)"""
        self._take_along = f"""
            UPDATE conversations SET chat_id = $2 WHERE bot_id = {bot} AND chat_id = $1 AND closed_at IS NULL"""
        self._jobs = f"""
            UPDATE jobs SET chat_id = $2 WHERE bot_id = {bot} AND chat_id = $1 AND state = 'waiting'"""

    async def known(self, connection: AsyncConnection, limit: int) -> KnownChats:
        """What is known of chats, the newest so many."""
        rows: Any = (await connection.exec_driver_sql(self._known, (limit,))).all()
        return KnownChats(
            unreachable={chat: why for chat, why, _ in reversed(rows) if why is not None},
            moved={chat: to for chat, _, to in reversed(rows) if to is not None},
        )

    async def lost(self, connection: AsyncConnection, chat_id: int, why: str) -> bool:
        """A chat can't be reached; False when that was known. `why` is one of the table's words."""
        return (await connection.exec_driver_sql(self._lost, (chat_id, why))).first() is not None

    async def found(self, connection: AsyncConnection, chat_id: int) -> bool:
        """A chat can be reached again; False when it could be all the time."""
        return (await connection.exec_driver_sql(self._found, (chat_id,))).first() is not None

    async def moved(self, connection: AsyncConnection, old: int, new: int) -> bool:
        """A group is a supergroup now: its open conversation and its jobs go on there. False when that was known."""
        if (await connection.exec_driver_sql(self._moved, (old, new))).first() is None:
            return False
        for statement in (self._close, self._take_along, self._jobs):
            await connection.exec_driver_sql(statement, (old, new))
        return True
