"""Where chats are: which can't be reached any more, and which groups have become supergroups with another id.

Telegram says so when it refuses a call, in `my_chat_member`, and in the messages of a migration. A chat that is heard
of again can be reached again. What is known is kept in `chat_states`; in memory are the newest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.conversing import OpenConversations
from botctl.bot.sending.flood import Place
from botctl.bot.vitals.health import Health
from botctl.storage.chats import Chats
from botctl.storage.sends import Sends

_log = structlog.get_logger("botctl.bot.sending.whereabouts")

MOST_KNOWN = 20_000
"""Chats in memory. One beyond costs a call that Telegram refuses; `my_chat_member` says when it can be reached."""

_HOPS = 8


class Whereabouts:
    """`on_moved` is called with the old and the new id when a group has moved; `wake` when an event was committed."""

    def __init__(
        self,
        database: Database,
        chats: Chats,
        sends: Sends,
        open_conversations: OpenConversations,
        publisher: Publisher,
        health: Health,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._chats = chats
        self._sends = sends
        self._open = open_conversations
        self._publisher = publisher
        self._health = health
        self._wake = wake
        self._unreachable: dict[int, str] = {}
        self._moved: dict[int, int] = {}
        self.on_moved: Callable[[int, int], None] = lambda old, new: None

    async def load(self) -> None:
        """Read what earlier processes have learnt; before anything is sent."""
        known = await self._database.statement(lambda connection: self._chats.known(connection, MOST_KNOWN))
        self._unreachable, self._moved = known.unreachable, known.moved

    def now(self, place: Place) -> Place:
        """Where a chat is now: the supergroup for a group that has become one."""
        for _ in range(_HOPS):
            if not isinstance(place, int) or (new := self._moved.get(place)) is None:
                break
            place = new
        return place

    def why_unreachable(self, place: Place) -> str | None:
        """Why nothing can be sent to a chat, as far as is known."""
        return self._unreachable.get(place) if isinstance(place, int) else None

    async def lost(self, chat_id: int, why: str, cause: str, trace_id: str, n: int) -> None:
        """A chat can't be reached: what is planned for it fails at once, and others are told, once."""
        if chat_id in self._unreachable:
            return
        event = self._publisher.unreachable(cause, trace_id, n, chat_id, why)

        async def work(connection: AsyncConnection) -> tuple[bool, int]:
            failed = await self._sends.failed_of_chat(connection, chat_id, f"Forbidden: the chat is unreachable: {why}")
            if news := await self._chats.lost(connection, chat_id, why):
                await self._publisher.store(connection, event)
            return news, failed

        news, failed = await self._database.transaction(work)
        self._unreachable[chat_id] = why
        while len(self._unreachable) > MOST_KNOWN:
            del self._unreachable[next(iter(self._unreachable))]
        if news:
            _log.warning("a chat can't be reached any more", chat_id=chat_id, why=why, sends_given_up=failed)
            self._health.count("chats_unreachable")
            self._wake()

    async def found(self, chat_id: int, *, ask: bool = False) -> None:
        """A chat is heard of. `ask`: look into the database even when memory knows nothing of it."""
        if chat_id not in self._unreachable and not ask:
            return
        if await self._database.statement(lambda connection: self._chats.found(connection, chat_id)):
            _log.info("a chat can be reached again", chat_id=chat_id)
        self._unreachable.pop(chat_id, None)

    async def moved(self, old: int, new: int) -> None:
        """A group is a supergroup now: its conversation, jobs and later sends go along."""
        if self._moved.get(old) == new or old == new:
            return
        await self._database.transaction(lambda connection: self._chats.moved(connection, old, new))
        _log.info("a group has become a supergroup", chat_id=old, new_chat_id=new)
        self._moved[old] = new
        self._moved.pop(new, None)  # no circles
        self._unreachable.pop(old, None)
        self._open.forget_chat(old)
        self._open.forget_chat(new)
        self.on_moved(old, new)

    async def read(self, kind: str, update: dict[str, Any], cause: str, trace_id: str) -> None:
        """What an update says of its chat, before it is handled."""
        content = update.get(kind)
        chat_id = _id(content.get("chat")) if isinstance(content, dict) else None
        if not isinstance(content, dict) or chat_id is None:
            return
        if kind == "my_chat_member":
            member = content.get("new_chat_member")
            status = member.get("status") if isinstance(member, dict) else None
            if status in ("kicked", "left"):
                private = isinstance(chat := content.get("chat"), dict) and chat.get("type") == "private"
                await self.lost(chat_id, "blocked" if private else "kicked", cause, trace_id, 0)
            else:
                await self.found(chat_id, ask=True)
            return
        if (new := _number(content.get("migrate_to_chat_id"))) is not None:
            await self.moved(chat_id, new)
        if (old := _number(content.get("migrate_from_chat_id"))) is not None:
            await self.moved(old, chat_id)
        await self.found(chat_id)


def _id(thing: Any) -> int | None:
    return _number(thing.get("id")) if isinstance(thing, dict) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None
