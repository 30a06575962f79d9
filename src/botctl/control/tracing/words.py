"""What can be asked of a trace, and why something in it waits. Pure: the time is given."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from botctl.errors import UsageError
from botctl.storage.interruptions import MARK

_TRACE = re.compile(r"[0-9a-f]{16}")
_CAUSE = re.compile(r"(update:\d{1,20}(\.[0-9a-f]{8})?|event:\S{1,150}|job:\S{1,200}|op:\S{1,100})")

UNKNOWN = "unknown"
"""State of a bot while the supervisor doesn't answer."""

_UP = frozenset({"running", "degraded", UNKNOWN})


@dataclass(frozen=True, slots=True)
class Address:
    """What is to be traced: one cause, or one trace."""

    cause: str = ""
    trace_id: str = ""


def address(words: str) -> Address:
    """From `123`, `update:123`, `event:<id>`, `job:…`, `op:…`, or 16 hexadecimal digits. Raises UsageError."""
    words = words.strip()
    if _TRACE.fullmatch(words):
        return Address(trace_id=words)
    if words.isdecimal() and len(words) <= 20:
        return Address(cause=f"update:{int(words)}")
    if _CAUSE.fullmatch(words):
        return Address(cause=words)
    raise UsageError(
        f"{words[:80]!r} is nothing that can be traced",
        hint="Give the id of an update, a trace id (16 hexadecimal digits), event:<id>, job:<name>:<due> or op:<id>.",
    )


def chat_of(lane: str) -> int | None:
    """The chat of a lane, if it is one."""
    kind, _, number = lane.partition(":")
    return int(number) if kind == "chat" and number.lstrip("-").isdecimal() else None


def own_error(stored: str | None) -> str | None:
    """An error as it is stored, without what a bot notes there for itself."""
    return None if stored is None or stored.startswith(MARK) else stored


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What decides why a row waits. `before`: the first before it in its lane, and how many."""

    attempts: int
    begun_at: float | None
    next_attempt_at: float | None
    error: str
    before: tuple[str, int] | None
    bot_state: str | None
    bot_reason: str


def why_it_waits(row: Standing, now: float) -> str:
    """In words, the most telling reason; whoever is asked for nothing else."""
    bot = _of_bot(row)
    if bot and row.bot_state not in _UP:
        return bot
    if row.begun_at is not None:
        since = f"for {_span(now - row.begun_at)}"
        asked = row.next_attempt_at is not None
        words = f"waits {since} for the completion API" if asked else f"is being handled {since}"
        return f"{words}; {bot}" if bot else words
    if row.before is not None:
        cause, count = row.before
        more = f", and {count - 1} more" if count > 1 else ""
        return f"waits for its chat's earlier {cause.replace(':', ' ')}{more}" + (f"; {bot}" if bot else "")
    if row.next_attempt_at is not None and row.next_attempt_at > now:
        return f"next attempt in {_span(math.ceil(row.next_attempt_at - now))}" + (f"; {bot}" if bot else "")
    return "waits for its turn" + (f"; {bot}" if bot else "")


def _of_bot(row: Standing) -> str:
    if row.bot_state is None:
        return "the bot is not in the fleet"
    if row.bot_state == UNKNOWN:
        return "whether the bot runs nobody knows: the supervisor doesn't answer"
    if row.bot_state == "running" and not row.bot_reason:
        return ""
    return f"the bot is {row.bot_state}" + (f": {row.bot_reason}" if row.bot_reason else "")


def _span(seconds: float) -> str:
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    return f"{round(seconds)} s" if seconds < 120 else f"{round(seconds / 60)} min"
