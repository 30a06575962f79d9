"""What is read from a stored update besides its parsing: who wrote, in which chat and thread, what text. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeGuard

from botctl.storage.conversations import Person


@dataclass(frozen=True)
class Incoming:
    """The facts of an update that the bot itself needs. `message` is set only for what is kept as a message."""

    kind: str
    chat_id: int | None = None
    thread_id: int = 0
    person: Person | None = None
    message: dict[str, Any] | None = None
    raw: dict[str, Any] | None = None
    """The whole update; None for what is none."""

    @property
    def text(self) -> str:
        """Text or caption of the message."""
        if self.message is None:
            return ""
        return str(self.message.get("text") or self.message.get("caption") or "")

    @property
    def moved_from(self) -> int | None:
        """The group that has become this supergroup, if that is what the message says."""
        content = self.raw.get(self.kind) if self.raw is not None else None
        old = content.get("migrate_from_chat_id") if isinstance(content, dict) else None
        return old if isinstance(old, int) and not isinstance(old, bool) else None

    @property
    def user_id(self) -> int | None:
        """Telegram's id of who wrote."""
        return self.person.user_id if self.person is not None else None


def read_incoming(kind: str, update: dict[str, Any]) -> Incoming:
    """The facts of an update; what is missing or odd is left out."""
    content = update.get(kind)
    if not isinstance(content, dict):
        return Incoming(kind)
    carrier = content
    if "chat" not in content and isinstance(content.get("message"), dict):
        carrier = content["message"]
    chat = carrier.get("chat")
    chat_id = chat.get("id") if isinstance(chat, dict) else None
    chat_id = chat_id if _is_number(chat_id) else None
    thread = carrier.get("message_thread_id") if carrier.get("is_topic_message") else None
    return Incoming(
        kind=kind,
        chat_id=chat_id,
        thread_id=thread if _is_number(thread) else 0,
        person=_person(content.get("from") or content.get("user")),
        message=content if kind == "message" and chat_id is not None and _is_storable(content) else None,
    )


def _is_number(value: Any) -> TypeGuard[int]:
    """Whether it is one that the database takes."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_storable(message: dict[str, Any]) -> bool:
    return message.get("message_id") is None or _is_number(message["message_id"])


def _person(user: Any) -> Person | None:
    if not isinstance(user, dict) or not _is_number(user.get("id")) or user.get("is_bot"):
        return None

    def word(key: str) -> str | None:
        value = user.get(key)
        return value if isinstance(value, str) else None

    return Person(user["id"], word("first_name"), word("last_name"), word("username"), word("language_code"))
