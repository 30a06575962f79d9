"""What is shown to who has not asked for texts: updates, events and errors without anybody's words. Pure.

An exception may quote whatever it met. Of one only its class is shown; of Telegram's refusals, whose sentences are
known, all but what they quote; of botctl's own sentences likewise. Frames of a traceback are code, and stay.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

_PLAIN = frozenset(
    {"type", "mime_type", "status", "language_code", "id", "chat_instance", "file_id", "file_unique_id", "source"}
    | {"correlation_id", "causation_id", "method", "parse_mode", "reply_to", "replay", "to"}
)
"""Keys of an update or an event whose values are nobody's words or names; all other strings are masked."""

_OWN = frozenset({"data", "parameters"})
"""Keys below which everything is a bot's own: there, too, anything may stand anywhere."""

_RAISED = re.compile(
    r"(?:^|(?<=[ :]))((?:[a-z_]\w*\.)+\w+|[A-Z]\w*[a-z]\w*|\w+(?:Error|Exception|Warning|Exit)): ", re.MULTILINE
)
"""The name of an exception before what it says: with a capital, or with a module in front."""

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|“[^”]*”|«[^»]*»|`[^`]*`")

_REFUSALS = frozenset(
    {"BadRequest", "ChatMigrated", "Conflict", "EndPointNotFound", "Forbidden", "InvalidToken", "TelegramError"}
)
"""Classes of python-telegram-bot with which a call was answered in the negative."""

_TOLD = _REFUSALS | {"CompletionError", "NetworkError", "RetryAfter", "TimedOut", "TimeoutError"}
"""Whose sentences are Telegram's or botctl's own."""

_UNMADE = "Forbidden: the chat is unreachable: "
"""How a send ends that isn't made since its chat was known to be out of reach (`bot.sending`)."""


def is_refusal(error: str) -> bool:
    """Whether the error of a failed send is Telegram's word, and not why the call was never made."""
    name, separator, _ = error.partition(": ")
    return bool(separator) and name in _REFUSALS and not error.startswith(_UNMADE)


def masked_error(error: str) -> str:
    """An error without what it may quote."""
    found = _RAISED.search(error)
    if found is not None and found[1] not in _TOLD:
        return error[: found.end()] + _length(error[found.end() :])
    return _QUOTED.sub(lambda quoted: _length(quoted[0][1:-1]), error)


def masked_traceback(traceback: str) -> str:
    """A traceback whose frames are shown, and of each exception its class. Its beginning may have been cut off."""
    lines: list[str] = []
    said: list[str] = []
    place = _Place.START
    for line in [*traceback.splitlines(), _HEADS[0]]:
        if line.startswith(_HEADS):
            if said and place is _Place.SAYING:
                lines.append(masked_error("\n".join(said)))
            said, place = [], _Place.FRAMES
            lines.append(line)
        elif place is not _Place.SAYING and _FRAME.match(line):
            place = _Place.FRAMES
            lines.append(line)
        elif place is _Place.FRAMES and line.startswith("    "):
            lines.append(line)
        elif place is not _Place.START and (line or said):
            place = _Place.SAYING
            said.append(line)
    return "\n".join(lines[:-1])


class _Place(Enum):
    START = "start"
    FRAMES = "frames"
    SAYING = "saying"


_FRAME = re.compile(r'  File "[^"]*", line \d+')
_HEADS = (
    "Traceback (most recent call last)",
    "During handling of the above exception",
    "The above exception was the direct cause",
)


def _length(text: str) -> str:
    return f"<{len(text)} characters>"


def masked(value: Any, key: str = "", *, own: bool = False) -> Any:
    """An update, an event or a job without people's words and names: the lengths of strings instead."""
    if isinstance(value, dict):
        return {name: masked(item, name, own=own or name in _OWN) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key, own=own) for item in value]
    if isinstance(value, str) and (own or key not in _PLAIN):
        return f"<{len(value)} characters>"
    return value
