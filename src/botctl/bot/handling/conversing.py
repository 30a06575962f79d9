"""Which conversation of a chat is open, and whom the bot has met lately: a small memory in front of the tables."""

from __future__ import annotations

from collections import OrderedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.storage.conversations import Conversations, Person

_KEPT = 2000
_SEEN_AGAIN = 60.0
"""Seconds after which somebody seen before is noted as seen again."""


class OpenConversations:
    """Open conversations by chat and thread. One process writes for a bot, so what was committed stays true."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations
        self._known: OrderedDict[tuple[int, int], int] = OrderedDict()

    async def get(self, connection: AsyncConnection, chat_id: int, thread_id: int) -> tuple[int, bool]:
        """The open conversation, and whether it was begun just now."""
        key = (chat_id, thread_id)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known, False
        conversation_id, begun = await self._conversations.open(connection, chat_id, thread_id)
        if not begun:  # One just begun may be rolled back; it is remembered when it is met again.
            self._known[key] = conversation_id
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return conversation_id, begun

    def forget(self, chat_id: int, thread_id: int) -> None:
        """Ask the database the next time."""
        self._known.pop((chat_id, thread_id), None)

    def forget_chat(self, chat_id: int) -> None:
        """Ask the database for all threads of a chat."""
        for key in [key for key in self._known if key[0] == chat_id]:
            del self._known[key]


class Acquaintances:
    """People whose row is fresh, so that not every message writes it again."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[Person, float]] = OrderedDict()

    def is_fresh(self, person: Person, now: float) -> bool:
        """Whether this person was noted in the last minute just as they are."""
        known = self._known.get(person.user_id)
        return known is not None and known[0] == person and now - known[1] < _SEEN_AGAIN

    def noted(self, person: Person, now: float) -> None:
        """The person's row has been committed."""
        self._known[person.user_id] = (person, now)
        self._known.move_to_end(person.user_id)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
