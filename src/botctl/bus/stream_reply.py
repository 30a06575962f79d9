"""Reads what the server says of streams. Pure."""

from __future__ import annotations

from typing import Any

from botctl.bus.events import FLEET, decode_event
from botctl.bus.topology import FIELD
from botctl.errors import ProtocolError


def entries_of(reply: Any) -> list[tuple[bytes, Any]]:
    """The entries of an XREADGROUP of one stream: a map over RESP3, pairs over RESP2, nothing if there are none."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return next(iter(reply.values())) or []
    return reply[0][1] or []


def entry_order(entry_id: str) -> tuple[int, int]:
    """What entry ids are sorted by; the first number is milliseconds since the epoch."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)


def entry_after(entry_id: str) -> str:
    """The smallest id greater than this one."""
    ms, seq = entry_order(entry_id)
    return f"{ms}-{seq + 1}" if seq < 2**64 - 1 else f"{ms + 1}-0"


def text_of(value: Any) -> str:
    """A word of a reply; what is no UTF-8 is replaced."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def size_of(fields: Any) -> int:
    """Bytes of an entry's fields and values."""
    return sum(map(len, fields)) if fields else 0


def event_key(fields: Any) -> tuple[int, str]:
    """Bot and id of an event in a log."""
    try:
        event = decode_event(fields[FIELD.encode()])
        return (0 if event.source == FLEET else int(event.source.removeprefix("bot:")), event.id)
    except (ProtocolError, KeyError, TypeError, ValueError):
        return (-1, "")
