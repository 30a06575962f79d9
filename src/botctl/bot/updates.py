"""From Telegram's answer to inbox rows, and what is read from an update before it is parsed. Pure.

An update is stored raw; the lane parses it. What can't be parsed at all becomes a dead letter, with its text. What has
no usable `update_id` can't be stored under one: it is dropped with a log line by the poller. What is no known kind is
stored all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

import msgspec

from botctl.bot import cleaning, raw_json
from botctl.storage.inbox import NewRow

ALLOWED_UPDATES = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "guest_message",
    "managed_bot",
)
"""Every kind there is, named explicitly: what an earlier program chose for this token must not linger on."""

_MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class Batch:
    """One answer to getUpdates: rows to store, ids that were seen, and what could not be used."""

    rows: tuple[NewRow, ...]
    next_offset: int | None
    unusable: tuple[str, ...] = ()


class _Answer(msgspec.Struct):
    result: list[msgspec.Raw]


_answer = msgspec.json.Decoder(_Answer)


def read_batch(body: bytes, new_trace_id: Callable[[], str]) -> Batch:
    """Split an answer of getUpdates. Raises ValueError when it is no such answer."""
    rows: list[NewRow] = []
    unusable: list[str] = []
    highest: int | None = None
    for raw in _split(body):
        try:
            row = _row(raw, new_trace_id())
        except (ValueError, RecursionError) as error:
            unusable.append(f"{type(error).__name__}: {error}")
            continue
        assert row.update_id is not None
        highest = row.update_id if highest is None else max(highest, row.update_id)
        rows.append(row)
    return Batch(tuple(rows), None if highest is None else highest + 1, tuple(unusable))


def _row(raw: bytes, trace_id: str) -> NewRow:
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


def chat_of_lane(lane: str) -> int | None:
    """The chat a lane belongs to, if it belongs to one."""
    kind, _, number = lane.partition(":")
    return int(number) if kind == "chat" else None


def _split(body: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _answer.decode(body).result]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # One update that no parser takes must not keep the others out.
        return raw_json.items_of(body, "result")


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
