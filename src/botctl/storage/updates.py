"""One update of Telegram as it came, and the inbox row it becomes; however it came. Pure.

What no parser takes becomes a dead letter, with its text, if an `update_id` can be found in it. What is no known kind
is stored all the same.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from botctl.storage import cleaning, raw_json
from botctl.storage.inbox import NewRow

_MAX_ID = 2**63 - 1


def read_update(raw: bytes, trace_id: str) -> NewRow:
    """The inbox row of an update as it came. Raises ValueError when it has no usable id."""
    try:
        update = cleaning.decode(raw)
        update_id = update.get("update_id") if isinstance(update, dict) else None
        if _is_usable(update_id):
            return row_of(update, update_id, trace_id)
    except (ValueError, RecursionError) as error:
        found = raw_json.number_of(raw, "update_id")
        if not _is_usable(found):
            raise
        return _unreadable(raw, found, trace_id, f"{type(error).__name__}: {error}"[:500])
    raise ValueError("an update without a usable update_id")


def _unreadable(raw: bytes, update_id: int, trace_id: str, reason: str) -> NewRow:
    """A dead letter with the update's text, as a text: what no parser takes, jsonb may not take either."""
    kind = next((key.decode("utf-8", "replace") for key in raw_json.keys_of(raw) if key != b"update_id"), "unknown")
    payload = cleaning.encode({"raw": cleaning.clean_text(raw.decode("utf-8", "replace"))})
    kind, reason = cleaning.clean_text(kind)[:64], cleaning.clean_text(reason)
    return NewRow(f"update:{update_id}", update_id, kind, "other", payload, trace_id, dead=f"can't be read: {reason}")


def _is_usable(update_id: Any) -> TypeGuard[int]:
    return isinstance(update_id, int) and not isinstance(update_id, bool) and 0 <= update_id <= _MAX_ID


def row_of(update: dict[str, Any], update_id: int, trace_id: str) -> NewRow:
    """The inbox row of one update."""
    kind = next((key for key in update if key != "update_id" and isinstance(key, str)), "unknown")[:64]
    content = update.get(kind)
    return NewRow(
        cause=f"update:{update_id}",
        update_id=update_id,
        kind=kind,
        lane=_lane(content),
        payload=cleaning.encode(update),
        trace_id=trace_id,
        sender=_id(content.get("from") or content.get("user")) if isinstance(content, dict) else None,
    )


def _lane(content: Any) -> str:
    if not isinstance(content, dict):
        return "other"
    message = content.get("message")
    chat = content.get("chat") or (message.get("chat") if isinstance(message, dict) else None)
    if chat is None:
        chat = content.get("voter_chat")
    number = _id(chat)
    if number is not None:
        return f"chat:{number}"
    number = _id(content.get("from") or content.get("user"))
    return f"user:{number}" if number is not None else "other"


def _id(thing: Any) -> int | None:
    number = thing.get("id") if isinstance(thing, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and abs(number) <= _MAX_ID else None
