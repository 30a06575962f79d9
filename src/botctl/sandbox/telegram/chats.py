"""Chats as one bot sees them: who is in them and every message, both directions, with its edits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from botctl.sandbox.telegram.memberships import Member

DRAFT_LIFE = 30.0
"""Seconds a draft is shown (documentation of sendMessageDraft)."""
SERVICE = frozenset(
    {
        *("new_chat_members", "left_chat_member", "new_chat_title", "pinned_message", "group_chat_created"),
        *("migrate_to_chat_id", "migrate_from_chat_id"),
    }
)
"""Fields that make a message a service message."""


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
    reactions: dict[int, list[str]] = field(default_factory=dict)
    """Emoji by the user who reacted."""
    votes: dict[int, list[int]] = field(default_factory=dict)
    """Chosen options of a poll by the user who voted."""

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
            "reactions": {str(user): emoji for user, emoji in self.reactions.items() if emoji},
            "message": self.body,
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """A text that is still being written."""

    draft_id: int
    text: str
    entities: list[dict[str, Any]]
    at: float
    changes: int
    thread: int | None

    def as_json(self) -> dict[str, Any]:
        """A line of the transcript."""
        shown = {"draft_id": self.draft_id, "text": self.text, "entities": self.entities, "at": self.at}
        return {**shown, "changes": self.changes, "message_thread_id": self.thread}


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
    bot_status: str = "member"
    """What the bot is in a group or channel, as in ChatMember."""
    members: dict[int, Member] = field(default_factory=dict)
    """People who were seen in it; never the bot."""
    pinned: list[int] = field(default_factory=list)
    drafts: dict[int, Draft] = field(default_factory=dict)
    migrated_to: int | None = None
    """The supergroup that this group has become."""

    def live_drafts(self, now: float) -> dict[int, Draft]:
        """The drafts that are still shown, by their ids; `now` in seconds since the epoch."""
        self.drafts = {key: draft for key, draft in self.drafts.items() if now < draft.at + DRAFT_LIFE}
        return self.drafts

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
