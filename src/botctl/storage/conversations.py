"""People, conversations and messages of one bot.

A conversation is what the model is shown: it belongs to a chat (and a thread in it), and at most one is open. Every
message in and out is kept under its bot and its cause, once: `(bot_id, cause, direction, part)` is its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.errors import VaultError
from botctl.storage.direct import later
from botctl.storage.recent_texts import RecentTexts
from botctl.storage.sealing import SEALED, UNSEALED, Sealing


@dataclass(frozen=True, slots=True)
class Person:
    """Who wrote, as Telegram describes them."""

    user_id: int
    first_name: str | None = None
    last_name: str | None = None
    username: str | None = None
    language_code: str | None = None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message in or out, as it is kept."""

    conversation_id: int
    chat_id: int
    thread_id: int
    direction: str
    role: str
    text: str
    cause: str
    part: int = 0
    user_id: int | None = None
    telegram_message_id: int | None = None
    entities: list[dict[str, Any]] | None = None
    trace_id: str = ""
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of the conversation so far."""

    role: str
    text: str


class History(list[Turn]):
    """Turns, the oldest first; `unreadable` says of each that had to be left out why it can't be opened."""

    unreadable: tuple[str, ...] = ()


class Conversations:
    """Users, conversations and messages of one bot. Text goes through `sealing`."""

    def __init__(self, bot_id: int, sealing: Sealing = UNSEALED) -> None:
        self._sealing = sealing
        self._recent = RecentTexts()
        bot = f"{int(bot_id)}"
        self._person = f"""
            INSERT INTO users AS known (bot_id, user_id, first_name, last_name, username, language_code, first_seen_at,
                                        last_seen_at)
            VALUES ({bot}, $1, $2, $3, $4, $5, now(), now())
            ON CONFLICT (bot_id, user_id) DO UPDATE SET
                first_name = excluded.first_name, last_name = excluded.last_name, username = excluded.username,
                language_code = coalesce(excluded.language_code, known.language_code), last_seen_at = now()"""
        self._open = f"""
            SELECT conversation_id FROM conversations
            WHERE bot_id = {bot} AND chat_id = $1 AND thread_id = $2 AND closed_at IS NULL"""
        self._start = f"""
            INSERT INTO conversations (bot_id, chat_id, thread_id, started_at) VALUES ({bot}, $1, $2, now())
            ON CONFLICT (bot_id, chat_id, thread_id) WHERE closed_at IS NULL DO NOTHING
            RETURNING conversation_id"""
        self._close = f"""
            UPDATE conversations SET closed_at = now()
            WHERE bot_id = {bot} AND conversation_id = $1 AND closed_at IS NULL"""
        self._add = f"""
            INSERT INTO messages (bot_id, conversation_id, chat_id, thread_id, direction, role, user_id,
                                  telegram_message_id, text, entities, cause, part, trace_id, model, input_tokens,
                                  output_tokens, created_at)
            VALUES ({bot}, $1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11, $12, $13, $14, $15, now())
            ON CONFLICT (bot_id, cause, direction, part) DO NOTHING"""
        self._identify = f"""
            UPDATE messages SET telegram_message_id = $3
            WHERE bot_id = {bot} AND cause = $1 AND direction = 'out' AND part = $2"""
        self._outgoing = f"""
            SELECT conversation_id, chat_id, thread_id, role, text, trace_id, model FROM messages
            WHERE bot_id = {bot} AND cause = $1 AND direction = 'out' AND part = $2"""
        # Commands and the bot's own notices are no part of what the model is shown.
        self._history = f"""
            SELECT role, text FROM messages
            WHERE bot_id = {bot} AND conversation_id = $1 AND cause <> $2 AND text <> ''
              AND role IN ('user', 'assistant', 'handler') AND NOT (role = 'user' AND text LIKE '/%')
            ORDER BY message_id DESC LIMIT $3"""

    async def meet(self, connection: AsyncConnection, person: Person) -> None:
        """Remember a person, or that they were seen again."""
        await later(
            connection,
            self._person,
            (person.user_id, person.first_name, person.last_name, person.username, person.language_code),
        )

    async def open(self, connection: AsyncConnection, chat_id: int, thread_id: int) -> tuple[int, bool]:
        """The open conversation of a chat, and whether it had to be begun."""
        for _ in range(3):
            for statement in (self._open, self._start):
                row = (await connection.exec_driver_sql(statement, (chat_id, thread_id))).first()
                if row is not None:
                    return int(row[0]), statement is self._start
        raise LookupError(f"no conversation could be opened in chat {chat_id}")

    async def close(self, connection: AsyncConnection, conversation_id: int) -> None:
        """End a conversation; the next message of its chat begins another one."""
        await later(connection, self._close, (conversation_id,))

    async def add(self, connection: AsyncConnection, messages: Sequence[StoredMessage]) -> None:
        """Keep messages in this order; one that is there already is left alone."""
        for message in messages:
            await later(
                connection,
                self._add,
                (
                    message.conversation_id,
                    message.chat_id,
                    message.thread_id,
                    message.direction,
                    message.role,
                    message.user_id,
                    message.telegram_message_id,
                    self._sealed(message.text),
                    self._entities(message.entities),
                    message.cause,
                    message.part,
                    message.trace_id,
                    message.model,
                    message.input_tokens,
                    message.output_tokens,
                ),
            )

    async def identify(self, connection: AsyncConnection, cause: str, part: int, telegram_message_id: int) -> None:
        """Note the id Telegram gave to a message that went out."""
        await later(connection, self._identify, (cause, part, telegram_message_id))

    async def outgoing(self, connection: AsyncConnection, cause: str, part: int) -> StoredMessage | None:
        """A message that was stored to be sent. Raises VaultError when it can't be opened."""
        row: Any = (await connection.exec_driver_sql(self._outgoing, (cause, part))).first()
        if row is None:
            return None
        return StoredMessage(
            conversation_id=row[0],
            chat_id=row[1],
            thread_id=row[2],
            direction="out",
            role=row[3],
            text=self._sealing.read_text("messages", "text", row[4]) or "",
            cause=cause,
            part=part,
            trace_id=row[5] or "",
            model=row[6],
        )

    async def history(self, connection: AsyncConnection, conversation_id: int, cause: str, limit: int) -> History:
        """The last messages of a conversation but those of `cause`, the oldest first."""
        turns, unreadable = History(), []
        if limit <= 0:
            return turns
        result = await connection.exec_driver_sql(self._history, (conversation_id, cause, limit))
        rows: Any = result.all()
        known = self._recent.get if self._recent else None
        for role, text in reversed(rows):
            try:
                turns.append(Turn(role, (known is not None and known(text)) or self._opened(text)))
            except VaultError as error:
                unreadable.append(error.message)
        turns.unreadable = tuple(unreadable)
        return turns

    def _sealed(self, text: str) -> str | None:
        stored = self._sealing.text("messages", "text", text)
        if stored and self._sealing.seals:
            self._recent.keep(stored, text)
        return stored

    def _opened(self, stored: str) -> str:
        text = self._sealing.read_text("messages", "text", stored) or ""
        if stored.startswith(SEALED):
            self._recent.keep(stored, text)
        return text

    def _entities(self, entities: list[dict[str, Any]] | None) -> str | None:
        if not entities:
            return None
        return self._sealing.json("messages", "entities", msgspec.json.encode(entities).decode())
