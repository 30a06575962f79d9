"""The parse modes MarkdownV2 and Markdown (legacy) of the Bot API, with Telegram's own complaints. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botctl.sandbox.telegram.errors import ApiError, bad_request
from botctl.sandbox.telegram.html import link_entity
from botctl.sandbox.telegram.utf16 import utf16_length

_RESERVED = frozenset("_*[]()~`>#+-=|{}.!")
_NAMES = {
    "bold": "Bold",
    "italic": "Italic",
    "underline": "Underline",
    "strikethrough": "Strikethrough",
    "spoiler": "Spoiler",
    "code": "Code",
    "pre": "PreCode",
    "text_link": "TextUrl",
    "custom_emoji": "CustomEmoji",
    "blockquote": "BlockQuote",
}
_MARKS = {"*": "bold", "_": "italic", "__": "underline", "~": "strikethrough", "||": "spoiler"}


@dataclass(slots=True)
class _Open:
    kind: str
    start: int
    at: int
    mark: str
    language: str = ""


class _Reader:
    """Walks a source once; what the result is made of is appended as it goes."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.index = 0
        self.pieces: list[str] = []
        self.length = 0
        self.entities: list[dict[str, Any]] = []
        self.stack: list[_Open] = []

    def put(self, text: str) -> None:
        self.pieces.append(text)
        self.length += utf16_length(text)

    def at(self, index: int | None = None) -> int:
        return len(self.source[: self.index if index is None else index].encode())

    def startswith(self, mark: str) -> bool:
        return self.source.startswith(mark, self.index)

    def push(self, kind: str, mark: str, language: str = "") -> None:
        self.stack.append(_Open(kind, self.length, self.index, mark, language))

    def pop(self) -> None:
        opened = self.stack.pop()
        size = self.length - opened.start
        if not size:
            return
        entity: dict[str, Any] = {"type": opened.kind, "offset": opened.start, "length": size}
        if opened.language:
            entity["language"] = opened.language
        self.entities.append(entity)

    def result(self) -> tuple[str, list[dict[str, Any]]]:
        return "".join(self.pieces), sorted(self.entities, key=lambda one: (one["offset"], -one["length"]))


def _refusal(reason: str) -> ApiError:
    return bad_request(f"can't parse entities: {reason}")


def parse_markdown_v2(source: str) -> tuple[str, list[dict[str, Any]]]:
    """The plain text and its entities. Raises 400 "can't parse entities: …"."""
    reader = _Reader(source)
    line_start = True
    quote: _Open | None = None
    while reader.index < len(source):
        character = source[reader.index]
        inside = reader.stack[-1].kind if reader.stack else ""
        verbatim = inside in ("code", "pre")
        if line_start and not verbatim:
            quoted = character == ">" or (quote is None and reader.startswith("**>"))
            if quoted and quote is None:
                quote = _Open("blockquote", reader.length, reader.index, ">")
            elif not quoted and quote is not None:
                _end_quote(reader, quote)
                quote = None
            if quoted:
                reader.index += 1 if character == ">" else 3
                line_start = False
                continue
        line_start = character == "\n"
        following = source[reader.index + 1 : reader.index + 2]
        if character == "\\" and following and 0 < ord(following) <= 126:
            reader.put(following)
            reader.index += 2
            continue
        if verbatim:
            _verbatim(reader, inside)
        elif (
            quote is not None and reader.startswith("||") and source[reader.index + 2 : reader.index + 3] in ("", "\n")
        ):
            quote.kind = "expandable_blockquote"
            reader.index += 2
        elif character not in _RESERVED:
            reader.put(character)
            reader.index += 1
        else:
            _mark(reader, character)
    if reader.stack:
        opened = reader.stack[-1]
        raise _refusal(f"Can't find end of {_NAMES[opened.kind]} entity at byte offset {reader.at(opened.at)}")
    if quote is not None:
        _end_quote(reader, quote)
    return reader.result()


def _end_quote(reader: _Reader, quote: _Open) -> None:
    ends_line = bool(reader.pieces) and reader.pieces[-1] == "\n" and reader.index < len(reader.source)
    size = reader.length - quote.start - ends_line
    if size > 0:
        reader.entities.append({"type": quote.kind, "offset": quote.start, "length": size})


def _verbatim(reader: _Reader, inside: str) -> None:
    mark = "```" if inside == "pre" else "`"
    if reader.startswith(mark):
        reader.index += len(mark)
        reader.pop()
    else:
        reader.put(reader.source[reader.index])
        reader.index += 1


def _mark(reader: _Reader, character: str) -> None:
    source = reader.source
    if character == "[":
        reader.push("text_link", "[")
        reader.index += 1
    elif character == "!" and reader.startswith("!["):
        reader.push("custom_emoji", "![")
        reader.index += 2
    elif character == "]" and any(opened.kind in ("text_link", "custom_emoji") for opened in reader.stack):
        _end_link(reader)
    elif character == "`":
        if reader.startswith("```"):
            end_of_line = source.find("\n", reader.index)
            language = source[reader.index + 3 : end_of_line] if end_of_line > 0 else ""
            has_language = bool(language) and " " not in language and "`" not in language
            reader.push("pre", "```", language if has_language else "")
            reader.index += 3 + (len(language) if has_language else 0)
            if source[reader.index : reader.index + 1] == "\n":
                reader.index += 1
        else:
            reader.push("code", "`")
            reader.index += 1
    else:
        mark = character * 2 if character in "_|" and reader.startswith(character * 2) else character
        kind = _MARKS.get(mark, "")
        if not kind:
            raise _refusal(f"Character '{character}' is reserved and must be escaped with the preceding '\\'")
        if reader.stack and reader.stack[-1].mark == mark:
            reader.index += len(mark)
            reader.pop()
        else:
            reader.push(kind, mark)
            reader.index += len(mark)


def _end_link(reader: _Reader) -> None:
    opened = reader.stack[-1]
    if opened.kind not in ("text_link", "custom_emoji"):
        raise _refusal(f"Can't find end of {_NAMES[opened.kind]} entity at byte offset {reader.at(opened.at)}")
    reader.stack.pop()
    text = "".join(reader.pieces)
    address = _plain_tail(text, reader.length - opened.start)
    reader.index += 1
    if reader.startswith("("):
        begin = reader.at()
        reader.index += 1
        characters: list[str] = []
        while reader.index < len(reader.source) and not reader.startswith(")"):
            escaped = reader.startswith("\\") and reader.index + 1 < len(reader.source)
            reader.index += escaped
            characters.append(reader.source[reader.index])
            reader.index += 1
        if reader.index >= len(reader.source):
            what = "a URL" if opened.kind == "text_link" else "a custom emoji URL"
            raise _refusal(f"Can't find end of {what} at byte offset {begin}")
        reader.index += 1
        address = "".join(characters)
    size = reader.length - opened.start
    if not size:
        return
    entity: dict[str, Any] = {"type": opened.kind, "offset": opened.start, "length": size}
    if opened.kind == "custom_emoji":
        entity["custom_emoji_id"] = address.rpartition("id=")[2]
        reader.entities.append(entity)
    elif (linked := link_entity(entity, address)) is not None:
        reader.entities.append(linked)


def _plain_tail(text: str, units: int) -> str:
    start = len(text)
    while start and units > 0:
        start -= 1
        units -= utf16_length(text[start])
    return text[start:]


def parse_markdown(source: str) -> tuple[str, list[dict[str, Any]]]:
    """The old Markdown mode: no nesting, backslash escapes only `_ * [` and the backtick."""
    reader = _Reader(source)
    while reader.index < len(source):
        character = source[reader.index]
        following = source[reader.index + 1 : reader.index + 2]
        if character == "\\" and following and following in "_*`[":
            reader.put(following)
            reader.index += 2
            continue
        if character not in "_*`[":
            reader.put(character)
            reader.index += 1
            continue
        begin = reader.at()
        mark = "```" if reader.startswith("```") else "]" if character == "[" else character
        first = reader.index + (3 if mark == "```" else 1)
        end = source.find(mark, first)
        if end < 0:
            raise _refusal(f"Can't find end of the entity starting at byte offset {begin}")
        content = source[first:end]
        kind = {"_": "italic", "*": "bold", "`": "code", "```": "pre", "]": "text_link"}[mark]
        reader.index = end + len(mark)
        language = ""
        if kind == "pre":
            first_line, newline, rest = content.partition("\n")
            if newline and " " not in first_line:
                language, content = first_line, rest
        entity: dict[str, Any] | None = {"type": kind, "offset": reader.length, "length": utf16_length(content)}
        if language and entity is not None:
            entity["language"] = language
        if kind == "text_link":
            address = content
            if reader.startswith("(") and (close := source.find(")", reader.index)) > 0:
                address = source[reader.index + 1 : close]
                reader.index = close + 1
            entity = link_entity(entity or {}, address)
        reader.put(content)
        if entity is not None and entity["length"]:
            reader.entities.append(entity)
    return reader.result()
