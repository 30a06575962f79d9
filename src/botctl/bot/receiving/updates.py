"""From Telegram's answer to inbox rows, and what is read from an update before it is parsed. Pure.

An update is stored raw; the lane parses it. What can't be parsed at all becomes a dead letter, with its text. What has
no usable `update_id` can't be stored under one: it is dropped with a log line by the poller. What is no known kind is
stored all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from botctl.storage import raw_json
from botctl.storage.inbox import NewRow
from botctl.storage.updates import read_update

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
            row = read_update(raw, new_trace_id())
        except (ValueError, RecursionError) as error:
            unusable.append(f"{type(error).__name__}: {error}")
            continue
        assert row.update_id is not None
        highest = row.update_id if highest is None else max(highest, row.update_id)
        rows.append(row)
    return Batch(tuple(rows), None if highest is None else highest + 1, tuple(unusable))


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
