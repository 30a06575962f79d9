"""How far readers are behind: bots in their mailboxes, groups in theirs, programs outside in the logs.

Asked when somebody wants to know, and cheap then: mailboxes that are empty, nearly all of them, cost one XLEN each in
one round trip for all. Never writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from botctl.bus.reading.mailbox_groups import field_of
from botctl.bus.stream_reply import entry_order, text_of
from botctl.bus.wire import Command, execute


@dataclass(frozen=True, slots=True)
class Place:
    """A reader of a stream. `reader` is `bot:NAME`, `group:NAME` or `grant:NAME`; `log` is empty for a mailbox."""

    reader: str
    stream: str
    group: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Lag:
    """`unread` entries were not handed out yet, `pending` ones not acknowledged; `seconds`: the age of the oldest.

    `oldest` is its id, empty if there is none. `known` False: the reader has no stream or group now.
    """

    reader: str
    log: str
    stream: str
    unread: int = 0
    pending: int = 0
    seconds: float = 0.0
    oldest: str = ""
    known: bool = True


async def measure(redis: Redis, places: Sequence[Place]) -> list[Lag]:
    """One for each place, in their order. Raises what Redis raises while it is away."""
    asked: list[Command] = [("TIME",), *(("XLEN", place.stream) for place in places)]
    (seconds, micros), *lengths = await execute(redis, asked)
    now = int(seconds) + int(micros) / 1e6
    busy = {n for n, length in enumerate(lengths) if isinstance(length, int) and length}
    replies = await execute(redis, [command for n in sorted(busy) for command in _questions(places[n])])
    found: dict[int, tuple[Any, Any]] = {n: (replies[2 * at], replies[2 * at + 1]) for at, n in enumerate(sorted(busy))}
    counted = {n: _counted(places[n], lengths[n], *reply) for n, reply in found.items()}
    behind = [n for n, one in counted.items() if one is not None and one[0]]
    firsts = await execute(redis, [("XRANGE", places[n].stream, f"({counted[n][3]}", "+", "COUNT", 1) for n in behind])  # type: ignore[index]
    next_unread = {n: _id(reply) for n, reply in zip(behind, firsts, strict=True)}
    lags: list[Lag] = []
    for n, place in enumerate(places):
        if n not in busy:
            lags.append(Lag(place.reader, place.log, place.stream, known=isinstance(lengths[n], int)))
            continue
        one = counted[n]
        if one is None:
            lags.append(Lag(place.reader, place.log, place.stream, known=False))
            continue
        unread, pending, first_pending, _ = one
        oldest = min((entry for entry in (first_pending, next_unread.get(n, "")) if entry), key=entry_order, default="")
        age = max(0.0, now - entry_order(oldest)[0] / 1000) if oldest else 0.0
        lags.append(Lag(place.reader, place.log, place.stream, unread, pending, round(age, 3), oldest))
    return lags


def _questions(place: Place) -> tuple[Command, Command]:
    return ("XINFO", "GROUPS", place.stream), ("XPENDING", place.stream, place.group)


def _counted(place: Place, length: int, groups: Any, pending: Any) -> tuple[int, int, str, str] | None:
    """Unread, pending, the first pending id, the last one handed out; None without a group."""
    if isinstance(groups, BaseException) or isinstance(pending, BaseException):
        return None
    group = next((one for one in groups if text_of(field_of(one, "name")) == place.group), None)
    if group is None:
        return None
    waiting = int(pending[0] or 0)
    lag = field_of(group, "lag")
    # After deletions the server doesn't know; what was read and acknowledged is cut off mailboxes soon.
    unread = min(int(lag), length) if isinstance(lag, int) else max(0, length - waiting)
    return unread, waiting, text_of(pending[1]) if waiting else "", text_of(field_of(group, "last-delivered-id"))


def _id(reply: Any) -> str:
    return text_of(reply[0][0]) if isinstance(reply, list) and reply else ""
