"""The parse mode HTML of the Bot API: text, entities, and Telegram's own complaints. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from botctl.sandbox.telegram.errors import ApiError, bad_request
from botctl.sandbox.telegram.utf16 import utf16_length

_TYPES = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "tg-emoji": "custom_emoji",
    "blockquote": "blockquote",
}
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_REFERENCE = re.compile(r"&(?:#(\d+)|#x([0-9a-f]+)|([a-z]+));?", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""\s*([^\s=>/"']+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9.\-]+)))?""")
_NAME = re.compile(r"[^\s>]*")


@dataclass(slots=True)
class _Open:
    tag: str
    start: int
    attributes: dict[str, str]


def parse_html(source: str) -> tuple[str, list[dict[str, Any]]]:
    """The plain text and its entities. Raises 400 "can't parse entities: …"."""
    pieces: list[str] = []
    length = 0
    entities: list[dict[str, Any]] = []
    stack: list[_Open] = []
    index = 0
    while index < len(source):
        character = source[index]
        if character == "<":
            if source[index + 1 : index + 2] == "/":
                index = _close(source, index, stack, entities, length, pieces)
            else:
                index = _open(source, index, stack, length)
            continue
        if character == "&":
            character, index = _reference(source, index)
        else:
            index += 1
        pieces.append(character)
        length += utf16_length(character)
    if stack:
        raise _refusal(f'Can\'t find end tag corresponding to start tag "{stack[-1].tag}"')
    return "".join(pieces), sorted(entities, key=lambda one: (one["offset"], -one["length"]))


def _refusal(reason: str) -> ApiError:
    return bad_request(f"can't parse entities: {reason}")


def _bytes(source: str, index: int) -> int:
    return len(source[:index].encode())


def _reference(source: str, index: int) -> tuple[str, int]:
    found = _REFERENCE.match(source, index)
    if found is None:
        return "&", index + 1
    decimal, hexadecimal, name = found.groups()
    if name is not None:
        known = _NAMED.get(name)
        return (known, found.end()) if known is not None else ("&", index + 1)
    code = int(decimal) if decimal is not None else int(hexadecimal, 16)
    if not 0 < code < 0x10FFFF or 0xD800 <= code < 0xE000:
        return "&", index + 1
    return chr(code), found.end()


def _open(source: str, index: int, stack: list[_Open], length: int) -> int:
    named = _NAME.match(source, index + 1)
    assert named is not None
    tag, position = named.group().lower(), named.end()
    if position >= len(source):
        raise _refusal(f"Unclosed start tag at byte offset {_bytes(source, index)}")
    if tag not in _TYPES:
        raise _refusal(f'Unsupported start tag "{tag}" at byte offset {_bytes(source, index)}')
    attributes: dict[str, str] = {}
    while source[position : position + 1] != ">":
        found = _ATTRIBUTE.match(source, position)
        if found is None:
            rest = source[position:].lstrip()
            if not rest:
                raise _refusal(f"Unclosed start tag at byte offset {_bytes(source, index)}")
            if rest.startswith(">"):
                position = source.index(">", position)
                continue
            raise _refusal(f'Empty attribute name in the tag "{tag}" at byte offset {_bytes(source, index)}')
        name, *values = found.groups()
        attributes[name.lower()] = next((value for value in values if value is not None), "")
        position = found.end()
    if tag == "span" and attributes.get("class") != "tg-spoiler":
        raise _refusal(f'Tag "span" must have class "tg-spoiler" at byte offset {_bytes(source, index)}')
    stack.append(_Open(tag, length, attributes))
    return position + 1


def _close(
    source: str, index: int, stack: list[_Open], entities: list[dict[str, Any]], length: int, pieces: list[str]
) -> int:
    at = _bytes(source, index)
    if not stack:
        raise _refusal(f"Unexpected end tag at byte offset {at}")
    end = source.find(">", index)
    if end < 0:
        raise _refusal(f"Unclosed end tag at byte offset {at}")
    tag = source[index + 2 : end].strip().lower()
    opened = stack.pop()
    if tag and tag != opened.tag:
        raise _refusal(f'Unmatched end tag at byte offset {at}, expected "</{opened.tag}>", found "</{tag}>"')
    if length > opened.start:
        entity = _entity(opened, length, stack, entities, pieces)
        if entity is not None:
            entities.append(entity)
    return end + 1


def _entity(
    opened: _Open, length: int, stack: list[_Open], entities: list[dict[str, Any]], pieces: list[str]
) -> dict[str, Any] | None:
    entity: dict[str, Any] = {"type": _TYPES[opened.tag], "offset": opened.start, "length": length - opened.start}
    if opened.tag == "a":
        link = opened.attributes.get("href", "") or _tail("".join(pieces), length - opened.start)
        return link_entity(entity, link)
    if opened.tag == "tg-emoji":
        entity["custom_emoji_id"] = opened.attributes.get("emoji-id", "")
    elif opened.tag == "blockquote" and "expandable" in opened.attributes:
        entity["type"] = "expandable_blockquote"
    elif opened.tag == "code" and stack and stack[-1].tag == "pre":
        language = opened.attributes.get("class", "")
        if language.startswith("language-") and stack[-1].start == opened.start:
            stack[-1].attributes["language"] = language.removeprefix("language-")
            return None
    elif opened.tag == "pre" and opened.attributes.get("language"):
        entity["language"] = opened.attributes["language"]
    return entity


def _tail(text: str, units: int) -> str:
    start = len(text)
    while start and units > 0:
        start -= 1
        units -= utf16_length(text[start])
    return text[start:]


def link_entity(entity: dict[str, Any], link: str) -> dict[str, Any] | None:
    """The entity of a link; None when the address is none (it is then plain text, as with the real server)."""
    person = re.fullmatch(r"tg:(?://)?user\?id=(\d+)", link.strip())
    if person is not None:
        number = int(person.group(1))
        return {**entity, "type": "text_mention", "user": {"id": number, "is_bot": False, "first_name": str(number)}}
    address = normal_url(link)
    return None if address is None else {**entity, "type": "text_link", "url": address}


def normal_url(link: str) -> str | None:
    """The address in full, or None when it is none: it needs a scheme Telegram knows or at least a dot."""
    link = link.strip()
    if re.fullmatch(r"(?:https?|tg|ton|tonsite)://\S+", link, re.IGNORECASE):
        scheme, rest = link.split("://", 1)
        host = rest.split("/", 1)[0]
        if scheme.lower().startswith("http") and "." not in host and ":" not in host and host != "localhost":
            return None
        return link if "/" in rest or scheme.lower() not in ("http", "https") else link + "/"
    if re.fullmatch(r"[^\s/]+\.[^\s/.]{2,}(?:/\S*)?", link):
        return f"http://{link}" if "/" in link else f"http://{link}/"
    return None
