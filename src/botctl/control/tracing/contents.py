"""What messages, answers, sends and events say: opened where that is asked for, measured and masked elsewhere. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from botctl.control.tracing.masking import masked_error, masked_traceback
from botctl.control.tracing.views import ContentView
from botctl.errors import VaultError
from botctl.storage.sealing import Sealing

SEALED = "(sealed; --text shows it)"


class Opener:
    """Opens what one bot has stored; `show` says whether texts are to be given, and sealed ones opened.

    `opened` counts the values whose text was given: what without `show` is masked, errors too.
    """

    def __init__(self, sealing: Callable[[], Sealing], *, show: bool) -> None:
        self._sealing = sealing
        self._made: Sealing | None = None
        self.show = show
        self.opened = 0

    def json(self, table: str, column: str, stored: str | None) -> tuple[Any, ContentView]:
        """The value, if it is clear or may be opened, and what is to be said of it so far."""
        if stored is None:
            return None, ContentView()
        sealed = '"$sealed"' in stored[:14]
        if sealed and not self.show:
            return None, ContentView(sealed=True)
        try:
            return json.loads(self._opened.read_json(table, column, stored)), ContentView(sealed=sealed)
        except VaultError as error:
            return None, ContentView(sealed=True, fault=error.message)
        except ValueError:
            return None, ContentView(sealed=sealed, fault="it is no JSON")

    def error(self, table: str, column: str, stored: str | None) -> str:
        """An error: it may quote a text, so all of it only if texts are to be given."""
        return self._told(table, column, stored, masked_error)

    def traceback(self, stored: str | None) -> str | None:
        """Where an exception came from; what the exceptions said only if texts are to be given."""
        return self._told("attempts", "traceback", stored, masked_traceback) or None

    def _told(self, table: str, column: str, stored: str | None, mask: Callable[[str], str]) -> str:
        if not stored:
            return ""
        if stored.startswith("$sealed:") and not self.show:
            return SEALED
        try:
            text = self._opened.read_text(table, column, stored) or ""
        except VaultError as error:
            return f"({error.message})"
        self.opened += self.show and (stored.startswith("$sealed:") or mask(text) != text)
        return text if self.show else mask(text)

    def say(self, content: ContentView, text: str | None) -> ContentView:
        """With a text: its length, and the text itself where it is to be given."""
        if text is None:
            return content
        self.opened += self.show
        return content.model_copy(update={"length": len(text), "text": text if self.show else None})

    @property
    def _opened(self) -> Sealing:
        if self._made is None:
            self._made = self._sealing()
        return self._made


def update_content(opener: Opener, kind: str, payload: str) -> tuple[ContentView, float | None]:
    """What came: its type and text, and when it was written by Telegram's clock."""
    value, content = opener.json("inbox", "payload", payload)
    if not isinstance(value, dict):
        return content, None
    if kind == "event" and "raw" not in value:
        return content.model_copy(update={"type": str(value.get("type", ""))}), _number(value.get("occurred_at"))
    if kind == "operation" and isinstance(value.get("parameters"), dict):
        text = value["parameters"].get("text")
        content = content.model_copy(update={"type": str(value.get("method", ""))})
        return opener.say(content, text if isinstance(text, str) else None), None
    inner = value.get(kind)
    if not isinstance(inner, dict):
        return content.model_copy(update={"type": "unreadable" if "raw" in value else kind}), None
    text = next((inner[key] for key in ("text", "caption", "data", "query") if isinstance(inner.get(key), str)), None)
    content = content.model_copy(update={"type": _type_of(inner)})
    return opener.say(content, text), _number(inner.get("edit_date") or inner.get("date"))


def answer_content(opener: Opener, response: str) -> ContentView:
    """A model's recorded answer."""
    value, content = opener.json("completions", "response", response)
    text = value.get("text") if isinstance(value, dict) else None
    return opener.say(content, text if isinstance(text, str) else None)


def send_content(opener: Opener, payload: str, result: str | None) -> tuple[ContentView, int | None]:
    """What was to be sent, and the id Telegram gave it."""
    value, content = opener.json("sends", "payload", payload)
    text = None
    if isinstance(value, dict):
        text = next((value[key] for key in ("text", "caption") if isinstance(value.get(key), str)), None)
    answered, _ = opener.json("sends", "result", result)
    message = answered[0] if isinstance(answered, list) and answered else answered
    number = message.get("message_id") if isinstance(message, dict) else None
    return opener.say(content, text), number if isinstance(number, int) else None


def event_note(opener: Opener, type_: str, data: str) -> str:
    """Of events that tell of a failure: which."""
    if type_ not in ("assistant.failed", "handler.failed", "chat.unreachable"):
        return ""
    value, _ = opener.json("outbox", "data", data)
    if not isinstance(value, dict):
        return ""
    words = " ".join(str(value[key]) for key in ("error", "status", "reason") if value.get(key) not in (None, ""))
    return (words if opener.show else masked_error(words))[:200]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_TYPES = ("text", "photo", "video", "voice", "audio", "document", "sticker", "animation", "video_note", "location",
          "contact", "poll", "venue", "dice", "new_chat_members", "left_chat_member", "data", "query")  # fmt: skip


def _type_of(inner: dict[str, Any]) -> str:
    return next((key for key in _TYPES if key in inner), "")
