"""From what is stored to what a trace tells of it: contents, masks, why something waits. Pure: the time is given."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botctl.control.tracing.views import ContentView
from botctl.errors import UsageError, VaultError
from botctl.storage.interruptions import MARK
from botctl.storage.sealing import Sealing

_TRACE = re.compile(r"[0-9a-f]{16}")
_CAUSE = re.compile(r"(update:\d{1,20}|event:\S{1,150}|job:\S{1,200}|op:\S{1,100})")

_PLAIN = frozenset(
    {"type", "mime_type", "status", "language_code", "id", "chat_instance", "file_id", "file_unique_id", "source"}
    | {"correlation_id", "causation_id", "method", "parse_mode", "reply_to", "replay", "to"}
)
"""Keys of an update or an event whose values are nobody's words or names; all other strings are masked."""

_OWN = frozenset({"data", "parameters"})
"""Keys below which everything is a bot's own: there, too, anything may stand anywhere."""

_UP = frozenset({"running", "degraded"})


@dataclass(frozen=True, slots=True)
class Address:
    """What is to be traced: one cause, or one trace."""

    cause: str = ""
    trace_id: str = ""


def address(words: str) -> Address:
    """From `123`, `update:123`, `event:<id>`, `job:…`, `op:…`, or 16 hexadecimal digits. Raises UsageError."""
    words = words.strip()
    if _TRACE.fullmatch(words):
        return Address(trace_id=words)
    if words.isdecimal() and len(words) <= 20:
        return Address(cause=f"update:{int(words)}")
    if _CAUSE.fullmatch(words):
        return Address(cause=words)
    raise UsageError(
        f"{words[:80]!r} is nothing that can be traced",
        hint="Give the id of an update, a trace id (16 hexadecimal digits), event:<id>, job:<name>:<due> or op:<id>.",
    )


def chat_of(lane: str) -> int | None:
    """The chat of a lane, if it is one."""
    kind, _, number = lane.partition(":")
    return int(number) if kind == "chat" and number.lstrip("-").isdecimal() else None


def own_error(stored: str | None) -> str | None:
    """An error as it is stored, without what a bot notes there for itself."""
    return None if stored is None or stored.startswith(MARK) else stored


class Opener:
    """Opens what one bot has stored; `show` says whether texts are to be given, and sealed ones opened.

    `opened` counts the values whose text was given.
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
        """An error; a sealed one only if texts are to be given: it may quote one."""
        if not stored:
            return ""
        if stored.startswith("$sealed:") and not self.show:
            return "(sealed; --text shows it)"
        try:
            return self._opened.read_text(table, column, stored) or ""
        except VaultError as error:
            return f"({error.message})"

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
    if kind == "event":
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
    words = [str(value[key]) for key in ("error", "status", "reason") if value.get(key) not in (None, "")]
    return " ".join(words)[:200]


def masked(value: Any, key: str = "", *, own: bool = False) -> Any:
    """An update, an event or a job without people's words and names: the lengths of strings instead."""
    if isinstance(value, dict):
        return {name: masked(item, name, own=own or name in _OWN) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key, own=own) for item in value]
    if isinstance(value, str) and (own or key not in _PLAIN):
        return f"<{len(value)} characters>"
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What decides why a row waits. `before`: the first before it in its lane, and how many."""

    attempts: int
    begun_at: float | None
    next_attempt_at: float | None
    error: str
    before: tuple[str, int] | None
    bot_state: str | None
    bot_reason: str


def why_it_waits(row: Standing, now: float) -> str:
    """In words, the most telling reason; whoever is asked for nothing else."""
    bot = _of_bot(row)
    if bot and row.bot_state not in _UP:
        return bot
    if row.begun_at is not None:
        since = f"for {_span(now - row.begun_at)}"
        asked = row.next_attempt_at is not None
        words = f"waits {since} for the completion API" if asked else f"is being handled {since}"
        return f"{words}; {bot}" if bot else words
    if row.before is not None:
        cause, count = row.before
        more = f", and {count - 1} more" if count > 1 else ""
        return f"waits for its chat's earlier {cause.replace(':', ' ')}{more}" + (f"; {bot}" if bot else "")
    if row.next_attempt_at is not None and row.next_attempt_at > now:
        return f"next attempt in {_span(math.ceil(row.next_attempt_at - now))}" + (f"; {bot}" if bot else "")
    return "waits for its turn" + (f"; {bot}" if bot else "")


def _of_bot(row: Standing) -> str:
    if row.bot_state is None:
        return "the bot is not in the fleet"
    if row.bot_state == "running" and not row.bot_reason:
        return ""
    return f"the bot is {row.bot_state}" + (f": {row.bot_reason}" if row.bot_reason else "")


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    return f"{round(seconds)} s" if seconds < 120 else f"{round(seconds / 60)} min"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


_TYPES = ("text", "photo", "video", "voice", "audio", "document", "sticker", "animation", "video_note", "location",
          "contact", "poll", "venue", "dice", "new_chat_members", "left_chat_member", "data", "query")  # fmt: skip


def _type_of(inner: dict[str, Any]) -> str:
    return next((key for key in _TYPES if key in inner), "")
