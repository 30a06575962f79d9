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
