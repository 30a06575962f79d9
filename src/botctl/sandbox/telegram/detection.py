"""Entities the server finds by itself in a text: commands, mentions, hashtags, addresses. Pure.

A python-telegram-bot CommandHandler only sees a command that has its entity, so an emulator can't do without.
Simpler than the real thing: a web address needs its scheme or a well-known ending, no phone numbers, no cashtags.
"""

from __future__ import annotations

import re
from typing import Any

from botctl.sandbox.telegram.utf16 import utf16_length

_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("url", re.compile(r"(?:https?|tg|ton)://[^\s<>\"»”]+[^\s<>\"»”.,;:!?)\]'…]", re.IGNORECASE)),
    ("email", re.compile(r"(?<![\w.@/])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}(?![\w@])", re.IGNORECASE)),
    ("url", re.compile(r"(?<![\w@./-])(?:[\w-]+\.)+(?:com|org|net|io|dev|me|app|ai)(?:/[^\s<>\"]*)?(?![\w@])")),
    ("bot_command", re.compile(r"(?<![\w/<>@])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/<>])")),
    ("mention", re.compile(r"(?<![\w/@])@[A-Za-z0-9_]{4,32}(?!\w)")),
    ("hashtag", re.compile(r"(?<![\w/#])#(?=\w*[^\W\d])\w{1,256}(?!\w)")),
)
_TRIGGERS = frozenset("/@#.:")
_EXCLUSIVE = frozenset({"code", "pre", "text_link", "text_mention", "custom_emoji"})


def detect_entities(text: str, given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Entities to add; never inside code, blocks of code, links and mentions that were given."""
    if _TRIGGERS.isdisjoint(text):
        return []
    taken = [(one["offset"], one["offset"] + one["length"]) for one in given if one["type"] in _EXCLUSIVE]
    found: list[dict[str, Any]] = []
    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start = utf16_length(text[: match.start()])
            end = start + utf16_length(match.group())
            if any(start < taken_end and taken_start < end for taken_start, taken_end in taken):
                continue
            taken.append((start, end))
            found.append({"type": kind, "offset": start, "length": end - start})
    return found
