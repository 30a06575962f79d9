"""Whether an update that comes under a known number is the same once more. Pure.

Telegram numbers updates one after another, but "if there are no new updates for at least a week, then identifier of the
next update will be chosen randomly" (https://core.telegram.org/bots/api#update): onto one that is kept still, perhaps.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container, Sequence
from typing import Any

import msgspec

from botctl.storage.inbox import NewRow, harmless

_NAMES = ("message_id", "id", "inline_message_id", "date", "edit_date", "poll_id", "query", "boost_id")
"""Keys of an update's content that say which one it is, with who and where."""

_WHERE = ("chat", "from", "user")


def is_repeat(row: NewRow, kind: str, payload: str) -> bool:
    """Whether a row is the update that is stored already, with this kind and payload.

    What nobody can tell of counts as another one: that costs a row too many, where the other mistake loses an update.
    """
    try:
        new, stored = msgspec.json.decode(row.payload), msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return row.payload == payload
    if new == stored:
        return True
    if isinstance(stored, dict) and stored.keys() == {"raw"}:  # kept as its text, because it was refused as it is
        return bool(msgspec.json.decode(harmless(row, "").payload) == stored)
    names = _names(new, row.kind)
    return row.kind == kind and names is not None and names == _names(stored, kind)


def to_compare(rows: Sequence[NewRow], fresh: Container[str]) -> list[NewRow]:
    """Of rows that came at once: updates under a number that has, or may have, another row; `fresh` are new causes.

    Of several rows of one cause the first is the one that was stored.
    """
    first: dict[str, NewRow] = {}
    return [
        row
        for row in rows
        if (first.setdefault(row.cause, row) is not row or row.cause not in fresh) and row.update_id is not None
    ]


def another(row: NewRow) -> NewRow:
    """The row of another update of the same number: under a cause of its own, the same whenever it comes."""
    try:
        text = msgspec.json.encode(msgspec.json.decode(row.payload), order="sorted")
    except (msgspec.DecodeError, RecursionError):
        text = row.payload.encode()
    return dataclasses.replace(row, cause=f"{row.cause}.{hashlib.sha256(text).hexdigest()[:8]}")


def _names(update: Any, kind: str) -> list[Any] | None:
    content = update.get(kind) if isinstance(update, dict) else None
    if not isinstance(content, dict):
        return None
    named = [content.get(key) for key in _NAMES]
    places = (content.get(key) for key in _WHERE)
    return [*named, *(place.get("id") if isinstance(place, dict) else None for place in places)] if any(named) else None
