"""Text as PostgreSQL can store it. Pure.

PostgreSQL refuses NUL characters and lone surrogates, and with them the whole statement they are in; an update that
carries one must not keep a hundred others out of the inbox.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """The text with NUL characters and lone surrogates replaced by U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, text) if _UNSTORABLE.search(text) else text


def clean(value: Any) -> Any:
    """A JSON value with all its texts cleaned, keys included."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(key) if isinstance(key, str) else key: clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def decode(body: bytes) -> Any:
    """JSON as it comes from outside, cleaned. Raises ValueError when it is none, RecursionError when it is too deep."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Lone surrogates, raw control characters and broken UTF-8 are taken by the more lenient decoder.
        value = json.loads(body.decode("utf-8", "replace"), strict=False)
        return clean(value)
    return clean(value) if b"\\u0000" in body else value


def encode(value: Any) -> str:
    """JSON text that PostgreSQL's jsonb takes. Raises ValueError for a value that is no JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, TypeError):
        return json.dumps(clean(value), allow_nan=False, default=str)
