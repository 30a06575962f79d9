"""Chats as one bot sees them: who is in them and every message, both directions, with its edits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Message:
    """A message as it stands, and what it was before."""

    direction: str
    """`in`: from a user to the bot; `out`: from the bot."""
    body: dict[str, Any]
    """The Message object of the Bot API."""
    at: float
    method: str
    """The method that made it; `user` for a user's message."""
    edits: list[dict[str, Any]] = field(default_factory=list)
    deleted: bool = False

    @property
    def message_id(self) -> int:
        """Telegram's id of it."""
        return int(self.body["message_id"])

    @property
    def text(self) -> str:
        """Text or caption."""
        return str(self.body.get("text", self.body.get("caption", "")))

    def as_json(self) -> dict[str, Any]:
        """A line of the transcript."""
        sender = self.body.get("from", {})
        return {
            "message_id": self.message_id,
            "direction": self.direction,
            "at": self.at,
            "method": self.method,
            "from": sender,
            "text": self.text,
            "entities": self.body.get("entities", self.body.get("caption_entities", [])),
            "edits": self.edits,
            "deleted": self.deleted,
            "message": self.body,
        }


@dataclass(slots=True)
class Chat:
    """One chat of one bot."""

    chat_id: int
    body: dict[str, Any]
    blocked: bool = False
    """The user has blocked the bot: every send answers 403."""
    messages: dict[int, Message] = field(default_factory=dict)
    last_message_id: int = 0
    """Supergroups count their own messages; other chats share the bot's counter."""

    @property
    def is_supergroup(self) -> bool:
        """Whether messages are counted by the chat."""
        return self.body["type"] in ("supergroup", "channel")


def chat_type_of(chat_id: int) -> str:
    """The type an id suggests: people are positive, supergroups begin with -100."""
    if chat_id > 0:
        return "private"
    return "supergroup" if str(chat_id).startswith("-100") and len(str(chat_id)) > 10 else "group"


def chat_body(chat_id: int, chat_type: str | None, user: dict[str, Any], title: str | None = None) -> dict[str, Any]:
    """The Chat object of the Bot API."""
    kind = chat_type or chat_type_of(chat_id)
    body: dict[str, Any] = {"id": chat_id}
    if kind == "private":
        body.update({key: user[key] for key in ("first_name", "last_name", "username") if user.get(key)})
    else:
        body["title"] = title or f"Group {abs(chat_id)}"
    body["type"] = kind
    return body
