"""Sizes and durations as operators write them: `256M`, `100ms`, `1m30s`. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SIZE_FACTOR = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DURATION_FACTOR = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes in `256M`, `1.5G` or `4096`; the letters are powers of 1024. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; write a number with K, M or G, such as 256M")
    return int(float(match[1]) * _SIZE_FACTOR[match[2].upper()])


def size_text(size: int) -> str:
    """`64M` for 67108864; sizes that are no whole number of mebibytes stay numbers."""
    for letter in "TGM":
        factor = _SIZE_FACTOR[letter]
        if size and size % factor == 0:
            return f"{size // factor}{letter}"
    return str(size)


def parse_duration(text: str) -> float:
    """Seconds in `100ms`, `30s`, `5m` or `1m30s`. Raises ValueError."""
    compact = text.strip().replace(" ", "")
    parts = list(_DURATION_PART.finditer(compact))
    if not parts or "".join(part[0] for part in parts) != compact:
        raise ValueError(f"{text!r} is no duration; write a number with ms, s, m, h or d, such as 30s")
    return sum(float(part[1]) * _DURATION_FACTOR[part[2]] for part in parts)


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(_size)]
"""A size in bytes, written as `256M` or as a number."""

Duration = Annotated[float, BeforeValidator(_duration)]
"""A duration in seconds, written as `100ms` or as a number."""
