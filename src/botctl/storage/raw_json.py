"""Looking into JSON without parsing it: for what a parser refuses, such as a value that is too deep. Pure.

Iterative, so that no depth is too much; it knows strings, escapes and brackets, and nothing of what is between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
_BEGINS_VALUE = re.compile(rb"\s*:\s*")
_NUMBER = re.compile(rb"([0-9]{1,19})(?=\s*[,}])")


def items_of(body: bytes, key: str) -> list[bytes]:
    """The items of the array that an object has under `key`. Raises ValueError when there is no such array."""
    for name, begin in _keys(body):
        if name == key.encode() and body[begin : begin + 1] == b"[":
            return _items(body, begin)
    raise ValueError(f"no list under {key!r}")


def number_of(body: bytes, key: str) -> int | None:
    """The number, of at most 19 digits and not negative, that an object has under `key`."""
    for name, begin in _keys(body):
        if name == key.encode():
            found = _NUMBER.match(body, begin)
            return int(found[1]) if found else None
    return None


def keys_of(body: bytes) -> list[bytes]:
    """The keys of an object, escapes left as they are."""
    return [name for name, _ in _keys(body)]


def _keys(body: bytes) -> Iterator[tuple[bytes, int]]:
    """The keys of the outermost object, and where their values begin."""
    depth = 0
    if not body.lstrip().startswith(b"{"):
        return
    for token in _TOKEN.finditer(body):
        match token[0][:1]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth <= 0:
                    return
            case b'"' if depth == 1:
                if value := _BEGINS_VALUE.match(body, token.end()):
                    yield token[0][1:-1], value.end()


def _items(body: bytes, begin: int) -> list[bytes]:
    items: list[bytes] = []
    depth, start = 0, begin + 1
    for token in _TOKEN.finditer(body, begin):
        match token[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth == 0:
                    last = body[start : token.start()].strip()
                    return [*items, last] if items or last else []
            case b"," if depth == 1:
                items.append(body[start : token.start()].strip())
                start = token.end()
    raise ValueError("a list that does not end")
