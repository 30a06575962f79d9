"""Message text and its entities, checked as the Bot API checks them. Pure.

Offsets and lengths are UTF-16 code units. The words of the errors are Telegram's own. Finding entities by itself
(commands, mentions, addresses) is `detection.py`; the parse modes are `html.py` and `markdown.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botctl.sandbox.telegram.detection import detect_entities
from botctl.sandbox.telegram.errors import bad_request
from botctl.sandbox.telegram.html import parse_html
from botctl.sandbox.telegram.markdown import parse_markdown, parse_markdown_v2
from botctl.sandbox.telegram.utf16 import utf16_length

TEXT_LIMIT = 4096
"""Telegram's documentation says "1-4096 characters after entities parsing", and its client configuration calls
message_length_max a "length in utf8 codepoints"; reports from practice disagree, many count UTF-16 code units.
This emulator counts UTF-16 code units, the stricter of the two: what passes here passes there by either rule."""
CAPTION_LIMIT = 1024
RAW_LIMIT = 1 << 15
"""Bytes of UTF-8 before parsing; beyond it the real server says "text is too long"."""

FORMATTING = frozenset(
    {
        "bold",
        "italic",
        "underline",
        "strikethrough",
        "spoiler",
        "blockquote",
        "expandable_blockquote",
        "code",
        "pre",
        "text_link",
        "text_mention",
        "custom_emoji",
        "date_time",
    }
)
FOUND_BY_SERVER = frozenset({"mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number"})
"""Types a client may name but which the server drops and finds itself."""

_ORDER = {name: place for place, name in enumerate(sorted(FORMATTING | FOUND_BY_SERVER))}
_REQUIRED = {"text_link": "url", "text_mention": "user", "custom_emoji": "custom_emoji_id"}
_EXTRA = ("url", "user", "language", "custom_emoji_id", "unix_time", "date_time_format")

Entity = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FormattedText:
    """A text as it is shown, with its entities."""

    text: str
    entities: list[Entity]


def format_text(
    text: str,
    parse_mode: str = "",
    entities: object = None,
    *,
    limit: int = TEXT_LIMIT,
    may_be_empty: bool = False,
    too_long: str = "message is too long",
) -> FormattedText:
    """The text a client would see. Raises 400 for everything Telegram refuses in a text."""
    if not text and not may_be_empty:
        raise bad_request("message text is empty")
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise bad_request("strings must be encoded in UTF-8") from None
    if len(raw) > RAW_LIMIT:
        raise bad_request("text is too long")
    found: list[Entity]
    mode = parse_mode.strip().lower()
    if mode in ("", "none"):
        found = read_entities(entities)
    elif mode == "html":
        text, found = parse_html(text)
    elif mode == "markdownv2":
        text, found = parse_markdown_v2(text)
    elif mode == "markdown":
        text, found = parse_markdown(text)
    else:
        raise bad_request("unsupported parse_mode")
    if not found and text.isascii() and text.isprintable() and text == text.strip():
        cleaned = text  # by far the most common case, worth a shortcut
    else:
        text, found = _clean(text, found)
        cleaned, found = _trim(text, found)
    if not cleaned and not may_be_empty:
        raise bad_request("text must be non-empty")
    if utf16_length(cleaned) > limit:
        raise bad_request(too_long)
    detected = detect_entities(cleaned, found)
    return FormattedText(cleaned, sort_entities(found + detected) if found or detected else [])


def read_entities(raw: object) -> list[Entity]:
    """Explicit entities as a client sent them: shape, type and required fields."""
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise bad_request("expected an Array of MessageEntity")
    found: list[Entity] = []
    for item in raw:
        if not isinstance(item, dict):
            raise bad_request("can't parse MessageEntity: expected an Object")
        offset, length = _number(item, "offset"), _number(item, "length")
        kind = item.get("type")
        if not isinstance(kind, str):
            raise bad_request("can't parse MessageEntity: Can't find field \"type\"")
        if kind not in FORMATTING and kind not in FOUND_BY_SERVER:
            raise bad_request("can't parse MessageEntity: Unsupported type specified")
        required = _REQUIRED.get(kind)
        if required is not None and not item.get(required):
            raise bad_request(f"can't parse MessageEntity: Can't find field \"{required}\"")
        if not 0 <= offset <= 1_000_000:
            raise bad_request(f"receive an entity with incorrect offset {offset}")
        if not 0 <= length <= 1_000_000:
            raise bad_request(f"receive an entity with incorrect length {length}")
        entity: Entity = {"type": kind, "offset": offset, "length": length}
        entity.update({name: item[name] for name in _EXTRA if item.get(name) is not None})
        if length:
            found.append(entity)
    return sort_entities(found)


def sort_entities(entities: list[Entity]) -> list[Entity]:
    """By offset, the longer first."""
    return sorted(entities, key=lambda entity: (entity["offset"], -entity["length"], _ORDER[entity["type"]]))


def _number(item: dict[str, Any], name: str) -> int:
    value = item.get(name)
    if value is None:
        raise bad_request(f"can't parse MessageEntity: Can't find field \"{name}\"")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise bad_request(f'can\'t parse MessageEntity: Field "{name}" must be of type Number')
    try:
        return int(value)
    except ValueError:
        raise bad_request(f'can\'t parse MessageEntity: Field "{name}" must be a valid Number') from None


def _clean(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Drop carriage returns, turn control characters into spaces, and check every entity's borders on the way."""
    kept: list[str] = []
    position = removed = read_bytes = 0
    open_entities: list[tuple[Entity, int]] = []
    moved: list[Entity] = []
    waiting = 0
    for character in [*text, ""]:
        while open_entities:
            entity, start = open_entities[-1]
            end = entity["offset"] + entity["length"]
            if position < end:
                break
            if position != end:
                raise bad_request(
                    f"Entity beginning at UTF-16 offset {entity['offset']} ends in a middle of a UTF-16 symbol"
                    f" at byte offset {read_bytes}"
                )
            open_entities.pop()
            moved.append({**entity, "offset": start, "length": position - removed - start})
        if not character:
            break
        while waiting < len(entities) and position >= entities[waiting]["offset"]:
            if position != entities[waiting]["offset"]:
                raise bad_request(f"Entity begins in a middle of a UTF-16 symbol at byte offset {read_bytes}")
            open_entities.append((entities[waiting], position - removed))
            waiting += 1
        if character == "\r":
            removed += 1
        elif character < " " and character != "\n":
            kept.append(" ")
        else:
            kept.append(character)
        position += 1 + (character > "\uffff")
        read_bytes += len(character.encode())
    if waiting < len(entities):
        raise bad_request(f"Entity begins after the end of the text at UTF-16 offset {entities[waiting]['offset']}")
    if open_entities:
        entity = open_entities[-1][0]
        raise bad_request(
            f"Entity beginning at UTF-16 offset {entity['offset']} ends after the end of the text"
            f" at UTF-16 offset {entity['offset'] + entity['length']}"
        )
    return "".join(kept), [entity for entity in moved if entity["length"] and entity["type"] not in FOUND_BY_SERVER]


def _trim(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Cut blanks at both ends; at the front only as far as the first entity, which may be a code block."""
    trimmed = text.rstrip(" \n")
    lead = len(trimmed) - len(trimmed.lstrip(" \n"))  # blanks are one code unit each
    if entities:
        lead = min(lead, min(entity["offset"] for entity in entities))
    trimmed = trimmed[lead:]
    size = utf16_length(trimmed)
    kept = []
    for entity in entities:
        start = entity["offset"] - lead
        length = min(entity["length"], size - start)
        if length > 0:
            kept.append({**entity, "offset": start, "length": length})
    return trimmed, kept
