"""What an event is, and how it is written as bytes.

Pure: no clock, no network, no catalogue. Whether an event's type and data are allowed is `catalogue`'s business.
"""

from __future__ import annotations

import re
import uuid
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from botctl.errors import ProtocolError

MAX_DEPTH = 64
"""Levels of nesting in an event's data; how deep Python itself goes differs between its versions."""

MAX_EVENT_BYTES = 64 * 1024
"""Size limit of one encoded event. Events tell that something happened; they don't carry files."""

MAX_VERSION = 1_000_000
"""Of an event type."""

FLEET = "fleet"
"""Source of events that the fleet's own control process publishes."""

TYPE_FORMAT = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+\Z"

_NAMESPACE = uuid.UUID("9f0e4c8e-5d0b-5b0c-9c35-0b8d2d1b7a11")
_TYPE = re.compile(TYPE_FORMAT)


class Log(StrEnum):
    """The three logs: bots and their lifecycle, the system as a whole, users and their messages."""

    BOT = "bot"
    SYSTEM = "system"
    USER = "user"


_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Type = Annotated[str, msgspec.Meta(pattern=TYPE_FORMAT, max_length=100)]
_Version = Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)]
_Label = Annotated[str, msgspec.Meta(max_length=200)]
_Moment = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Replay = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,40}\Z")]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. `occurred_at` is in seconds since the epoch.

    `id` is the same however often the event is delivered; consumers keep it to work each event off once. No other
    bot can use it. `source` is `bot:<bot_id>` or `fleet`, stamped by the router from the stream the event came from:
    what a publisher writes there is ignored. `correlation_id` is the trace of the update that began it all,
    `causation_id` the cause right before.

    The last six keys are there only where they mean something. `to` with a `deadline` (seconds since the epoch) is a
    request: the router delivers it to that bot alone, named by name or id, and stamps its `bot:<id>` and, as
    `source_name`, who asks. With `reply_to`, the id of a request, it is the reply; `error` says why there is no answer.
    `replay` marks an event that is delivered once more on purpose: each mark is worked off once. No bot can set it.
    """

    id: _Id
    type: _Type
    version: _Version = 1
    source: _Label = ""
    occurred_at: _Moment
    correlation_id: _Label = ""
    causation_id: _Label = ""
    data: dict[str, Any] = {}
    to: _Label | UnsetType = UNSET
    deadline: _Moment | UnsetType = UNSET
    reply_to: _Id | UnsetType = UNSET
    error: _Label | UnsetType = UNSET
    source_name: _Label | UnsetType = UNSET
    replay: _Replay | UnsetType = UNSET

    @property
    def is_request(self) -> bool:
        """Whether one bot is asked for an answer."""
        return bool(self.to) and not self.reply_to

    @property
    def cause(self) -> str:
        """The cause of what handling it leads to: the same for the same event, another one for each replay."""
        return f"event:{self.id}@{self.replay}" if self.replay else f"event:{self.id}"


_LABELS = ("id", "source", "correlation_id", "causation_id", "to", "reply_to", "error", "source_name")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event as JSON. Raises ProtocolError for one too large, unencodable, or of an impossible type name."""
    if _TYPE.fullmatch(event.type) is None or len(event.type) > 100:
        raise ProtocolError(f"event type {event.type[:100]!r} is not of the form name.name, lower case")
    try:
        body = _encoder.encode(event)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"event {event.type} can't be encoded: {error}") from error
    if len(body) > MAX_EVENT_BYTES:
        raise ProtocolError(f"event {event.type} has {len(body)} bytes; {MAX_EVENT_BYTES} are allowed")
    _check_depth(event, body)
    _check_labels(event, body)
    return body


def decode_event(body: bytes) -> Event:
    """The event in these bytes. Raises ProtocolError. Unknown envelope keys are left out: later versions may add."""
    if len(body) > MAX_EVENT_BYTES:
        raise ProtocolError(f"event has {len(body)} bytes; {MAX_EVENT_BYTES} are allowed")
    try:
        event = _decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no event: {error}") from error
    _check_depth(event, body)
    _check_labels(event, body)
    return event


def _check_labels(event: Event, body: bytes) -> None:
    """No database takes a NUL character; in `data` each reader replaces it, but what an event is known by stays."""
    if b"\\u0000" in body:
        for name in _LABELS:
            if "\0" in (getattr(event, name) or ""):
                raise ProtocolError(f"`{name}` of an event has a NUL character")


def _check_depth(event: Event, body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(event.data) > MAX_DEPTH:
        raise ProtocolError(f"event is nested deeper than {MAX_DEPTH} levels")


def _depth(data: Any) -> int:
    depth, level = 0, [data]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            below += item.values() if isinstance(item, dict) else item
        level = [item for item in below if isinstance(item, dict | list)]
    return depth


def event_id(bot_id: int, cause: str, n: int) -> str:
    """The id of the n-th event that `cause` (an update, a job, another event) leads to in this bot.

    Deterministic: when a crash makes a bot handle the cause again, the same events have the same ids. Whoever knows how
    can compute another's; so it begins with the bot's own, and the router lets no other bot use it (`batcher.py`).
    """
    return f"{bot_id}:{uuid.uuid5(_NAMESPACE, f'{bot_id}|{cause}|{n}')}"


def may_use(bot_id: int, id_: str) -> bool:
    """Whether this bot may publish an event of this id. One without an owner was made before ids had one."""
    owner, colon, _ = id_.partition(":")
    return not colon or owner == str(bot_id)
