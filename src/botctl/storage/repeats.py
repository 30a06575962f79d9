"""Whether an update that comes under a known number is the same once more. Pure.

Telegram numbers updates one after another, but "if there are no new updates for at least a week, then identifier of the
next update will be chosen randomly" (https://core.telegram.org/bots/api#update): onto one that is kept still, perhaps.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import msgspec

from botctl.storage.inbox import NewRow

_NAMES = ("message_id", "id", "inline_message_id", "date", "edit_date", "poll_id", "query", "boost_id")
"""Keys of an update's content that say which one it is, with who and where."""

_WHERE = ("chat", "from", "user")


def is_repeat(row: NewRow, kind: str, payload: str) -> bool:
    """Whether a row is the update that is stored already, with this kind and payload."""
    try:
        new, stored = msgspec.json.decode(row.payload), msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return True  # nobody can tell
    if new == stored or (isinstance(stored, dict) and stored.keys() == {"raw"}):
        return True  # what is kept as its text was refused as it is
    names = _names(new, row.kind)
    return row.kind == kind and names is not None and names == _names(stored, kind)


def another(row: NewRow) -> NewRow:
    """The row of another update of the same number: under a cause of its own, the same whenever it comes."""
    digest = hashlib.sha256(msgspec.json.encode(msgspec.json.decode(row.payload), order="sorted")).hexdigest()[:8]
    return dataclasses.replace(row, cause=f"{row.cause}.{digest}")


def _names(update: Any, kind: str) -> list[Any] | None:
    content = update.get(kind) if isinstance(update, dict) else None
    if not isinstance(content, dict):
        return None
    named = [content.get(key) for key in _NAMES]
    places = (content.get(key) for key in _WHERE)
    return [*named, *(place.get("id") if isinstance(place, dict) else None for place in places)] if any(named) else None
