"""Times, spans and strangers' text in words for a terminal. Pure: the time is an argument."""

from __future__ import annotations

import re
import signal
from datetime import datetime

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.?)")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SIGNAL = re.compile(r"\bsignal (\d{1,3})\b")

_UNITS = (("days", 86_400.0), ("h", 3600.0), ("min", 60.0))


def span(seconds: float) -> str:
    """`0.08 s`, `12 s`, `5 min`, `3 h`, `2 days`."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    if seconds >= 10:
        return f"{int(seconds)} s"
    return f"{max(0.0, seconds):.3g} s"


def ago(at: float, now: float) -> str:
    """`5 min ago`; `just now` for what is no second old, or, by another clock, still to come."""
    return f"{span(int(now - at))} ago" if now - at >= 1 else "just now"


def local_time(at: float) -> str:
    """In the operator's time zone, to the second."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def when(at: float, now: float) -> str:
    """`2026-01-05 14:02:33 (5 min ago)`."""
    return f"{local_time(at)} ({ago(at, now)})"


def times(count: int) -> str:
    """`once`, `twice`, `5 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def printable(text: str) -> str:
    """Without what would move the cursor, change colours or hide itself: a bot may print anything."""
    return _CONTROLS.sub("�", _ESCAPES.sub("", text.expandtabs(4)))


def with_signals_named(text: str) -> str:
    """With `SIGSEGV` where `signal 11` stands."""
    return _SIGNAL.sub(lambda found: _name_of_signal(int(found[1])) or found[0], text)


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def cut(text: str, width: int) -> str:
    """At most `width` characters."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"
