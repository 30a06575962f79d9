"""One bot as the emulator knows it: its account, its updates, its chats, its files, and what it did."""

from __future__ import annotations

import random
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from botctl.sandbox.signals import Signal
from botctl.sandbox.telegram.chats import Chat, Message, chat_body
from botctl.sandbox.telegram.files import FileStore
from botctl.sandbox.telegram.memberships import Member
from botctl.sandbox.telegram.updates import UpdateQueue

TOKEN = re.compile(r"([1-9]\d{0,15}):[A-Za-z0-9_-]{3,64}")
"""What can be a token at all; the real ones have 35 characters after the colon."""
MESSAGE_LIMIT = 100_000
"""Messages kept for one bot, over all chats."""
EVENT_LIMIT = 100_000
CALLBACK_LIMIT = 10_000


def bot_id_of(token: str) -> int | None:
    """The bot's id in a well-formed token."""
    found = TOKEN.fullmatch(token)
    return int(found.group(1)) if found else None


@dataclass(slots=True)
class Callback:
    """A pressed button, or another query, that waits for its answer."""

    at: float
    answered: bool = False


@dataclass(slots=True)
class Bot:
    """State of one bot. Everything in it is bounded."""

    bot_id: int
    token: str
    first_name: str
    username: str
    updates: UpdateQueue
    chats: dict[int, Chat] = field(default_factory=dict)
    files: FileStore = field(default_factory=FileStore)
    callbacks: dict[str, Callback] = field(default_factory=dict)
    commands: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """Name, description and short description, by what and language."""
    webhook: Any = None
    """The webhooks.Webhook that is delivered to; None while the bot polls."""
    events: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=EVENT_LIMIT))
    happened: Signal = field(default_factory=Signal)
    last_message_id: int = field(default_factory=lambda: random.randrange(10, 1000))
    last_event: int = 0
    _kept: deque[tuple[int, int]] = field(default_factory=deque)

    @property
    def user(self) -> dict[str, Any]:
        """The bot as a sender of messages."""
        return {"id": self.bot_id, "is_bot": True, "first_name": self.first_name, "username": self.username}

    @property
    def me(self) -> dict[str, Any]:
        """What getMe answers."""
        return {
            **self.user,
            "can_join_groups": True,
            "can_read_all_group_messages": False,
            "supports_inline_queries": True,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    def open_chat(self, chat_id: int, chat_type: str | None, user: dict[str, Any], title: str | None = None) -> Chat:
        """The chat, made when it is new."""
        chat = self.chats.get(chat_id)
        if chat is None:
            chat = self.chats[chat_id] = Chat(chat_id, chat_body(chat_id, chat_type, user, title))
        return chat

    def chat_by_name(self, username: str) -> Chat | None:
        """The public group or channel of that @username."""
        wanted = username.lower()
        found = (chat for chat in self.chats.values() if str(chat.body.get("username", "")).lower() == wanted)
        return next((chat for chat in found if chat.body["type"] != "private"), None)

    def known_user(self, user_id: int) -> dict[str, Any] | None:
        """A user the bot has seen anywhere."""
        for chat in self.chats.values():
            if chat.chat_id == user_id and chat.body["type"] == "private":
                return {"is_bot": False, **{key: value for key, value in chat.body.items() if key != "type"}}
            if user_id in chat.members:
                return chat.members[user_id].user
        return None

    def tell_of_member(self, chat: Chat, by: dict[str, Any], old: Member, new: Member) -> int | None:
        """Queue the update about a changed member, my_chat_member for the bot itself; its id."""
        kind = "my_chat_member" if new.user["id"] == self.bot_id else "chat_member"
        body = {"chat": chat.body, "from": by, "date": int(time.time())}
        return self.updates.push(kind, {**body, "old_chat_member": old.as_json(), "new_chat_member": new.as_json()})

    def next_message_id(self, chat: Chat) -> int:
        """The id of the next message there."""
        if chat.is_supergroup:
            chat.last_message_id += 1
            return chat.last_message_id
        self.last_message_id += 1
        return self.last_message_id

    def keep(self, chat: Chat, message: Message) -> None:
        """Add a message to the transcript; the bot's oldest one goes when there are too many."""
        chat.messages[message.message_id] = message
        self._kept.append((chat.chat_id, message.message_id))
        if len(self._kept) > MESSAGE_LIMIT:
            chat_id, message_id = self._kept.popleft()
            self.chats[chat_id].messages.pop(message_id, None)

    def record(self, kind: str, **details: Any) -> None:
        """Tell those who watch what the bot did."""
        self.last_event += 1
        self.events.append({"seq": self.last_event, "at": time.time(), "type": kind, **details})
        self.happened.notify()

    def events_after(self, seq: int, limit: int = 1000) -> list[dict[str, Any]]:
        """The oldest `limit` events after that one."""
        found: list[dict[str, Any]] = []
        if self.last_event <= seq:
            return found
        for event in reversed(self.events):
            if event["seq"] <= seq:
                break
            found.append(event)
        found.reverse()
        return found[:limit]

    def ask(self, query_id: str) -> None:
        """Remember that a button was pressed."""
        self.callbacks[query_id] = Callback(time.time())
        if len(self.callbacks) > CALLBACK_LIMIT:
            del self.callbacks[next(iter(self.callbacks))]

    def duplicates(self) -> list[dict[str, Any]]:
        """Texts the bot sent more than once into the same chat, as far as they are still kept."""
        counts = Counter(
            (chat.chat_id, message.text)
            for chat in self.chats.values()
            for message in chat.messages.values()
            if message.direction == "out"
        )
        return [
            {"chat_id": chat_id, "text": text, "count": count} for (chat_id, text), count in counts.items() if count > 1
        ]
