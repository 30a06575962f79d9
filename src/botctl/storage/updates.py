"""One update of Telegram as it came, and the inbox row it becomes; however it came. Pure.

What no parser takes becomes a dead letter, with its text, if an `update_id` can be found in it. What is no known kind
is stored all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    kind = kind_of(update)
    content = update.get(kind)
    return NewRow(
        cause=f"update:{update_id}",
        update_id=update_id,
        kind=kind[:64],
        lane=lane_of(kind, content),
        payload=cleaning.encode(update),
        trace_id=trace_id,
        sender=_id(content.get("from") or content.get("user")) if isinstance(content, dict) else None,
    )


def kind_of(update: dict[str, Any]) -> str:
    """What kind of update it is; of one with several contents a known one, as python-telegram-bot reads it."""
    known = next((key for key in LANES if key in update), None)
    return known or next((key for key in update if key != "update_id" and isinstance(key, str)), "unknown")


def lane_of(kind: str, content: Any) -> str:
    """The lane of an update's content; `other` when it names nobody that its kind goes by."""
    for place in LANES.get(kind, _GUESSES):
        found = content
        for key in place.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if (number := _id(found)) is not None:
            return f"{'user' if place in _USERS else 'chat'}:{number}"
    return "other"


def _id(thing: Any) -> int | None:
    number = thing.get("id") if isinstance(thing, dict) else None
    return number if isinstance(number, int) and not isinstance(number, bool) and abs(number) <= _MAX_ID else None


_USERS = frozenset({"from", "user"})
_OF_CHAT = ("chat", "from")
_OF_USER = ("from", "user")
_GUESSES = ("chat", "message.chat", *_OF_USER)

LANES: Mapping[str, tuple[str, ...]] = {
    "message": _OF_CHAT,
    "edited_message": _OF_CHAT,
    "channel_post": _OF_CHAT,
    "edited_channel_post": _OF_CHAT,
    "business_connection": _OF_USER,
    "business_message": _OF_CHAT,
    "edited_business_message": _OF_CHAT,
    "deleted_business_messages": _OF_CHAT,
    "guest_message": _OF_CHAT,
    "message_reaction": ("chat", "user"),
    "message_reaction_count": _OF_CHAT,
    "inline_query": _OF_USER,
    "chosen_inline_result": _OF_USER,
    "callback_query": ("message.chat", "from"),
    "shipping_query": _OF_USER,
    "pre_checkout_query": _OF_USER,
    "purchased_paid_media": _OF_USER,
    "poll": (),
    "poll_answer": ("voter_chat", "user"),
    "my_chat_member": _OF_CHAT,
    "chat_member": _OF_CHAT,
    "chat_join_request": _OF_CHAT,
    "chat_boost": _OF_CHAT,
    "removed_chat_boost": _OF_CHAT,
    "managed_bot": _OF_USER,
}
"""By kind, whose lane an update takes: the first of these places that holds an id. So all that happens in a chat is
handled in its order, presses of buttons with it; what happens outside of chats in that of its user. A poll's figures
belong to nobody: their lane is `other`."""
